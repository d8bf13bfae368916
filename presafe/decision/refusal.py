"""Whether what a model says without reasoning is a refusal, by how it begins."""

import re
from dataclasses import dataclass

from presafe.decision.rule import PathTaken
from presafe.judges.prefixes import PrefixJudge
from presafe.records import FinishReason

SENTENCE = re.compile(r"[.!?]\s*$")
BEGINNING = 40
"""Tokens of an answer in which a refusal should have shown; what shows none until then is called no refusal."""


@dataclass(frozen=True)
class RefusalReader:
    """Names the path of an answer behind an empty think block: `refuse` or `answer`.

    What the judge cannot tell (another language, say) is `answer`: nothing is called a refusal that is not known to be
    one. `refusal` is the card's own text, which is recognised in whatever language it is; empty without a card.
    """

    judge: PrefixJudge
    refusal: str

    def path(self, beginning: str, tokens: int) -> PathTaken | None:
        """The path as far as the first `tokens` of an answer show it; None while it shows none.

        A whole sentence that refuses is a refusal that was said, whatever follows it.
        """
        if not beginning:
            return None
        path = self.end(beginning, "decided")
        said = path == "refuse" and SENTENCE.search(beginning) is not None
        undecided = self.refusal.startswith(beginning) or not self.judge.decided(beginning)
        return path if said or not undecided or tokens >= BEGINNING else None

    def end(self, answer: str, finish_reason: FinishReason) -> PathTaken:
        """The path of an answer that is over. One that was cut off is read as far as it came."""
        if self._is_the_cards(answer):
            return "refuse"
        read: FinishReason = "stop" if finish_reason == "stop" else "decided"
        return "refuse" if self.judge(answer, read) == "refuse" else "answer"

    def _is_the_cards(self, answer: str) -> bool:
        """Whether an answer begins with the card's refusal, up to the end of its last word."""
        return bool(self.refusal) and answer.startswith(self.refusal) and not answer[len(self.refusal) :][:1].isalnum()
