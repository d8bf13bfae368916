"""Fields that change nothing: what clients send along without a need, and what is taken as if it were not there."""

from collections.abc import Collection, Mapping
from typing import Any

Harmless = Mapping[str, Collection[Any]]
"""Values by field that change nothing. Null and empty ones change nothing of any field that is named here."""

REQUEST: Harmless = {
    "tools": (),
    "tool_choice": ("none", "auto"),  # without tools there is no choice
    "parallel_tool_calls": (True, False),
    "functions": (),
    "function_call": ("none", "auto"),
    "logit_bias": (),
    "top_logprobs": (0,),
    "prediction": (),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "reasoning_effort": (),
    "verbosity": ("medium",),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "prompt_cache_retention": ("in_memory", "in-memory", "24h"),
    # vLLM's, as its clients send them
    "top_k": (-1, 0),
    "min_p": (0,),
    "repetition_penalty": (1,),
    "best_of": (1,),
}
MESSAGE: Harmless = {"tool_calls": (), "function_call": (), "annotations": (), "audio": ()}
PART: Harmless = {"annotations": ()}
STREAM_OPTIONS: Harmless = {"include_obfuscation": (False,)}


def present(
    body: Mapping[str, Any], harmless: Harmless, required: Collection[str], known: Collection[str]
) -> dict[str, Any]:
    """`body` without what changes nothing. An unknown field stays, to be refused by its name, but only the first one:
    a body of thousands of them would cost an error each.
    """
    kept: dict[str, Any] = {}
    unknown = False
    for name, value in body.items():
        if name in known:
            if value is not None and (name in required or not _empty(value)):
                kept[name] = value
        elif name in harmless and (_empty(value) or any(_same(value, other) for other in harmless[name])):
            continue
        elif not unknown:
            kept[name], unknown = value, True
    return kept


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _same(value: Any, other: Any) -> bool:
    """Equal, and a truth value only to a truth value (Python takes True for 1)."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)
