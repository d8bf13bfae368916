"""Between texts and the token ids of a local engine; what no engine may see is stopped here."""

from collections.abc import Sequence

from presafe.conversation import messages
from presafe.engines.engine import Completion, Query, failed
from presafe.errors import UserError
from presafe.records import CotMode, FinishReason
from presafe.thinking import ThinkFormat


def encode(
    queries: Sequence[Query], think: ThinkFormat, max_prompt_tokens: int
) -> tuple[dict[int, list[int]], dict[int, Completion]]:
    """Prompt ids of the good queries, a prefill behind them, and completions with errors of the others, by place.

    An empty prompt makes an engine answer nothing in particular, and one that is too long can end it for everybody.
    """
    prompts: dict[int, list[int]] = {}
    rejected: dict[int, Completion] = {}
    for place, query in enumerate(queries):
        if not think.without_control(query.text).strip():
            rejected[place] = failed("empty prompt")
            continue
        try:
            ids = think.prompt_ids(messages(query), cot=query.cot == "on") + begun(query, think)
        except UserError as error:  # what one prompt makes of the template costs no other
            rejected[place] = failed(str(error))
            continue
        if len(ids) > max_prompt_tokens:
            rejected[place] = failed(f"prompt of {len(ids)} tokens; the engine takes {max_prompt_tokens}")
        else:
            prompts[place] = ids
    return prompts, rejected


def begun(query: Query, think: ThinkFormat) -> list[int]:
    """Token ids of a query's prefill; none where it has none, or where it says no more than the prompt itself."""
    if query.prefill is None:
        return []
    assert query.cot == "on", "a prefill stands behind a prompt with chain-of-thought on"
    return think.prefill_ids(query.prefill)


def completion(think: ThinkFormat, cot: CotMode, text: str, num_tokens: int, finish_reason: FinishReason) -> Completion:
    """A decoded completion taken apart; one that ends inside its reasoning was cut off, however it ended."""
    thought = think.split(text, cot=cot == "on")
    return Completion(thought.reasoning, thought.answer, finish_reason if thought.closed else "length", num_tokens)
