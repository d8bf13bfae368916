"""Which of the model's own CoT-ON completions become traces: those that ended and are not known to be wrong."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from presafe.graders import check_answers
from presafe.judges.answers import JudgedAnswer
from presafe.records import Trace

REASONS = ("truncated", "filtered", "refused", "unscored", "wrong")
"""Why a completion is no trace, in the order in which it is asked."""


def kept_traces(
    judged: Iterable[JudgedAnswer], references: Mapping[str, str], dropped: Counter[str]
) -> Iterator[Trace]:
    """Traces of benign and reasoning prompts, streamed; `dropped` counts the others by reason.

    `references` has the checkable answer of each reasoning prompt by prompt_id. Where it cannot be checked, the trace
    is kept if the judge says that it complies; one that is right is kept even where the judge cannot tell.
    """

    def ended() -> Iterator[tuple[JudgedAnswer, str, str | None]]:
        for one in judged:
            if one.generation.finish_reason == "length":
                dropped["truncated"] += 1
            elif one.generation.finish_reason == "filtered":
                dropped["filtered"] += 1
            elif one.decision == "refuse":
                dropped["refused"] += 1
            else:
                yield one, one.generation.answer, references.get(one.generation.prompt_id)

    for one, right in check_answers(ended()):
        row = one.generation
        if right is False and row.answer.strip():
            dropped["wrong"] += 1
        elif not right and one.decision == "unscored":
            dropped["unscored"] += 1
        else:
            yield Trace(row.prompt_id, row.reasoning, row.answer, row.finish_reason, row.num_tokens)
