"""An answer of an OpenAI-compatible endpoint, whole or still growing, with its reasoning taken out."""

from dataclasses import dataclass, replace
from typing import Any, get_args

from presafe.engines.engine import Completion, failed
from presafe.records import CotMode, FinishReason

OPEN, CLOSE = "<think>", "</think>"
"""Tags of an endpoint that has no reasoning parser."""


@dataclass(frozen=True)
class Answer:
    """`reasoning` is what the endpoint itself calls so; `content` may hold think tags where it has no such field."""

    reasoning: str = ""
    content: str = ""
    finish_reason: str = "none"
    num_tokens: int = 0

    def grown(self, message: dict[str, Any], chunks: int = 0) -> "Answer":
        """With a message or a delta more; vLLM writes `reasoning`, others `reasoning_content`.

        A chunk with text counts as one token, until the endpoint says how many there were.
        """
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
        content = message.get("content") or message.get("refusal") or ""
        return replace(
            self,
            reasoning=self.reasoning + reasoning,
            content=self.content + content,
            num_tokens=self.num_tokens + (chunks if reasoning or content else 0),
        )

    def finished(self, reason: str, num_tokens: int) -> "Answer":
        return replace(self, finish_reason=reason, num_tokens=num_tokens)

    def beginning(self, cot: CotMode) -> str | None:
        """The answer so far; None while this may still be reasoning.

        An endpoint without a parser may leave out the opening tag, so with chain-of-thought on only a closing tag, or
        content behind reasoning, shows that the answer has begun.
        """
        _, answer, closed = self._parts()
        begun = cot == "off" or CLOSE in self.content or bool(self.reasoning)
        half_a_tag = OPEN.startswith(self.content.strip())
        return answer if closed and begun and not half_a_tag else None

    def completion(self) -> Completion:
        """The Completion; its error where the endpoint ended for another reason than its end or its limit."""
        if self.finish_reason not in get_args(FinishReason):
            return failed(f"finish reason {self.finish_reason}")
        reasoning, answer, closed = self._parts()
        reason: FinishReason = self.finish_reason if closed else "length"  # type: ignore[assignment]
        return Completion(reasoning, answer, reason, self.num_tokens)

    def _parts(self) -> tuple[str, str, bool]:
        """Reasoning, answer, and whether the reasoning is closed."""
        if self.reasoning:
            return self.reasoning.strip(), self.content.strip(), bool(self.content.strip())
        head, closing, tail = self.content.partition(CLOSE)
        if closing or head.lstrip().startswith(OPEN):
            return head.replace(OPEN, "").strip(), tail.strip(), bool(closing)
        return "", self.content.strip(), True
