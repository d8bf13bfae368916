"""The model as a client meets it: texts in, decisions and answers out."""

from collections.abc import Sequence
from dataclasses import dataclass

from presafe.config import Decoding
from presafe.conversation import Conversation, Turn
from presafe.decision.rule import PathTaken
from presafe.engines.engine import Completion, Engine, Query


@dataclass(frozen=True)
class Asked:
    """One candidate: the user's last turn behind the `earlier` ones. Those that differ in `sample` draw differently."""

    text: str
    earlier: Sequence[Turn] = ()
    sample: int = 0
    drawn: bool = False
    """Whether the decision is drawn, as the tokens behind it are, or is the most probable one, which is served."""


@dataclass(frozen=True)
class Seen:
    """What became of a candidate. `refuse_probability` is None where the target shows none.

    `error` says why the engine did not take it; it is then as good as refused.
    """

    path: PathTaken
    refuse_probability: float | None
    error: str | None = None


class Target:
    """An engine, and how it decodes: `decoding` behind a served decision, `temperature` where the decision is drawn."""

    def __init__(self, engine: Engine, decoding: Decoding, temperature: float, seed: int) -> None:
        self._engine, self._decoding, self._temperature, self._seed = engine, decoding, temperature, seed

    def decisions(self, asked: Sequence[Asked]) -> list[Seen]:
        """Of each candidate, generated no further than the path needs to show. All are drawn, or none."""
        return [
            Seen(one.path or "refuse", one.refuse_probability, one.error)
            for one in self._generated(asked, max_new_tokens=1)
        ]

    def answer(self, asked: Asked) -> Completion:
        """The whole answer."""
        return self._generated([asked], self._decoding.max_new_tokens)[0]

    def _generated(self, asked: Sequence[Asked], max_new_tokens: int) -> list[Completion]:
        drawn = any(one.drawn for one in asked)
        change = {"max_new_tokens": max_new_tokens} | ({"temperature": self._temperature} if drawn else {})
        queries = [
            Query(one.text, "on", one.sample, decision="drawn" if drawn else "greedy", earlier=list(one.earlier))
            for one in asked
        ]
        return self._engine.generate(queries, self._decoding.model_copy(update=change), self._seed)


def as_it_is(prompt: Conversation) -> Asked:
    """The prompt before anything was done to it."""
    return Asked(prompt.text, prompt.earlier)
