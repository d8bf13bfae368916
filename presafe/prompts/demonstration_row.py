"""What makes a row a ready demonstration: a conversation, what the assistant says next, and on which path."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from presafe.config import Demonstrations, PrefixSettings
from presafe.decision.rule import Path
from presafe.files import Problem
from presafe.files.values import missing, plain
from presafe.judges.prefixes import prefix_judge
from presafe.prompts.turns import AssistantReply, ReadsMessages
from presafe.records import Demonstration, prompt_id
from presafe.thinking.tags import Tags

refuses = prefix_judge(PrefixSettings())


@dataclass(frozen=True)
class ReadsRows:
    """Makes demonstrations of the fields of a source's rows. `tags` are think tags beside those of published models."""

    source: Demonstrations
    max_characters: int
    tags: Sequence[Tags] = ()

    def __call__(self, fields: Mapping[str, Any]) -> Demonstration | Problem:
        """The turns before the assistant's last one, without earlier thoughts; its thought and answer."""
        messages = self._in_columns(fields) if self.source.in_columns else fields["messages"]
        found = ReadsMessages(self.max_characters, self.tags).demonstration(messages)
        if isinstance(found, Problem):
            return found
        turns, reply = found
        path = self._path(fields["demonstrates"], reply)
        signal = _probability(fields["refuse_probability"])
        if isinstance(path, Problem):
            return path
        if isinstance(signal, Problem):
            return signal
        reasoning = reply.reasoning if path == "think" else ""
        own = prompt_id(json.dumps([path, reasoning, reply.answer]), turns)
        return Demonstration(own, self.source.name, turns, reasoning, reply.answer, path, signal)

    def _in_columns(self, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
        system = [] if missing(fields["system"]) else [{"role": "system", "content": fields["system"]}]
        reasoning = None if missing(fields["reasoning"]) else fields["reasoning"]
        last = {"role": "assistant", "content": fields["answer"], "reasoning": reasoning}
        return [*system, {"role": "user", "content": fields["prompt"]}, last]

    def _path(self, value: Any, reply: AssistantReply) -> Path | Problem:
        """Its column's, else the source's, else the one that the reply shows."""
        named = plain(value) or self.source.demonstrates
        if named == "refuse" or (named is None and not reply.reasoning and refuses(reply.answer, "stop") == "refuse"):
            return "refuse"
        if named in ("think", None) and reply.reasoning:
            return "think"
        if named == "think":
            return Problem("no reasoning", "no thought in a demonstration of Path B")
        if named is None:
            told = "no thought, and no refusal that the rules of judge `prefixes` see"
            return Problem("unclear path", f"{told}; set the source's demonstrates, or its column")
        return Problem("unknown path", f"demonstrates {value!r} is neither refuse nor think")


def _probability(value: Any) -> float | Problem | None:
    if missing(value):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = -1.0
    if isinstance(value, bool) or not 0 <= found <= 1:
        return Problem("no probability", f"refuse_probability {str(value)[:80]!r} is not in [0, 1]")
    return found
