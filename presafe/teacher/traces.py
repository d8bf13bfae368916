"""Which of the model's own CoT-ON completions become traces: those that ended and are not known to be wrong."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from presafe.checking import check_answers
from presafe.engines.job import Generation
from presafe.judges import JudgedAnswer
from presafe.records import Trace

REASONS = ("truncated", "filtered", "refused", "unscored", "wrong")
"""Why a completion is no trace, in the order in which it is asked."""


def kept_traces(
    judged: Iterable[JudgedAnswer], references: Mapping[str, str], dropped: Counter[str]
) -> Iterator[Trace]:
    """Traces of benign and reasoning prompts, streamed; `dropped` counts the others by reason.

    `references` has the checkable answer of each reasoning prompt by prompt_id. Where it is no mathematics, the answer
    cannot be checked and the trace is kept.
    """

    def usable() -> Iterator[tuple[Generation, str, str | None]]:
        for one in judged:
            if reason := _unusable(one):
                dropped[reason] += 1
            else:
                yield one.generation, one.generation.answer, references.get(one.generation.prompt_id)

    for row, right in check_answers(usable()):
        if right is False:
            dropped["wrong"] += 1
        else:
            yield Trace(row.prompt_id, row.reasoning, row.answer, row.finish_reason, row.num_tokens)


def _unusable(one: JudgedAnswer) -> str | None:
    if one.generation.finish_reason == "length":
        return "truncated"
    if one.generation.finish_reason == "filtered":
        return "filtered"
    return {"refuse": "refused", "unscored": "unscored", "comply": None}[one.decision]
