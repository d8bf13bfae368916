"""How engines make completions side by side: a prompt in, steps of token ids out, the first one with p'."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from presafe.records import DecisionMode

EndReason = Literal["stop", "length"]
"""The model ended the completion, or it reached its limit."""


@dataclass(frozen=True)
class Sampling:
    """What a client may choose. All but `max_tokens` applies to Path B only."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True)
class Step:
    """The next tokens of one completion; an end of sequence is counted in `unread_tokens`, and not among them.

    `refuse_probability` is in the first step and in no other one; it is NaN where the model has no head that this
    engine can read.
    """

    tokens: Sequence[int]
    refuse_probability: float | None = None
    finish_reason: EndReason | None = None
    unread_tokens: int = 0


@dataclass(frozen=True)
class Load:
    """What an engine is busy with."""

    running: int
    """Completions in line, waiting ones included."""
    kv_use: float
    """Share of the KV cache that is taken."""
    generated_tokens: int
    """Tokens generated since the start, of all completions."""


class EngineError(RuntimeError):
    """A completion that the engine lost. It says so to one client, and `check` says whether the engine is lost, too."""


class StreamingEngine(Protocol):
    """Generates completions side by side.

    It takes the decision as `Steering` says, by the gate it was made with: no client's sampling changes that.
    """

    def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        limit: int,
        decision: DecisionMode | None = "greedy",
        *,
        whole: bool = False,
    ) -> AsyncGenerator[Step]:
        """At most `limit` tokens behind `prompt`. Closing the generator stops the generation.

        `decision` is how the decision of a CoT-ON prompt is decoded; None is for a prompt that leaves none to take, and
        for the model's own text, whatever it is. The endpoint knows `greedy` alone. `whole` says that one
        step with all tokens will do. Raises EngineError where the engine fails.
        """
        ...

    @property
    def load(self) -> Load: ...

    def check(self) -> None:
        """Raise EngineError where the engine is dead or hangs."""
        ...

    def close(self) -> None:
        """Stop. Completions on their way are lost."""
        ...
