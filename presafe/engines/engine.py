"""The one interface of all engines: queries in, completions out."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from presafe.config import Decoding
from presafe.conversation import Prefill, Role, Turn, transcript
from presafe.decision.rule import PathTaken
from presafe.records import CotMode, DecisionMode, FinishReason

IsDecided = Callable[[str], bool]
"""Whether the beginning of an answer decides it already, whatever comes behind."""

Tell = Callable[[int, int], None]
"""Is told of a call under way, as often as an engine likes: queries done so far, and about how many tokens."""


def told_nobody(done: int, tokens: int) -> None:
    """Where nobody wants to be told."""


@dataclass(frozen=True)
class Query:
    """One completion to generate: a user's turn behind `earlier` ones, with chain-of-thought on or off.

    Queries that differ in `sample` alone draw differently. `stop_early` lets the engine stop where the answer is
    decided. With `decision` a CoT-ON query is answered as the endpoint answers it (presafe/decision); without, the
    completion is the model's own text. Endpoints alone take a `role` other than the user's.

    With `prefill` a CoT-ON query's completion begins with that, and the model goes on from there by its own decoding:
    no decision is taken, since the prefix stands where it would be. The completion is then taken apart as a whole, and
    its path is what the whole shows; p' is that of the pre-CoT position, in front of the prefix.
    """

    text: str
    cot: CotMode
    sample: int = 0
    stop_early: bool = False
    decision: DecisionMode | None = None
    earlier: list[Turn] = field(default_factory=list)
    prefill: Prefill | None = None
    role: Role = "user"


@dataclass(frozen=True)
class Completion:
    """A completion taken apart. `num_tokens` counts what was generated, reasoning and end of sequence included.

    `error` says why a query has no completion: it was empty, too long, or refused by the endpoint. `path` is that of a
    query with a decision; `refuse_probability` is p', where the engine was made with a head that it can read.
    `prompt_tokens` is what was read, a prefill included, where the engine knows it: a cost, and nothing of the answer.
    """

    reasoning: str
    answer: str
    finish_reason: FinishReason
    num_tokens: int
    error: str | None = None
    path: PathTaken | None = None
    refuse_probability: float | None = None
    prompt_tokens: int | None = field(default=None, compare=False)


class Engine(Protocol):
    """Generates for lists of queries. A bad query gets a completion with its error and costs no other query."""

    def generate(
        self,
        queries: Sequence[Query],
        decoding: Decoding,
        seed: int,
        decided: IsDecided | None = None,
        tell: Tell = told_nobody,
    ) -> list[Completion]:
        """One completion a query, in order; greedy ones are the same in every engine.

        With `decided`, a query that says `stop_early` ends with finish reason `decided` once its answer is decided.
        """
        ...


def failed(error: str) -> Completion:
    """The completion of a query that no engine saw."""
    return Completion("", "", "length", 0, error)


def query_seed(seed: int, query: Query) -> int:
    """A seed of 31 bits for one query: by its content, so that no batch or worker changes what it draws."""
    begun = () if query.prefill is None else tuple(sorted(query.prefill.items()))
    content = (seed, transcript(query), query.cot, query.sample, *begun)
    return int.from_bytes(hashlib.sha256(repr(content).encode()).digest()[:4], "big") >> 1
