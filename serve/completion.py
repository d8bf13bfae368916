"""One completion while it comes: which token is next, which path it is on, what of it the client may read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from presafe.gate import Path, path_taken
from presafe.records import FinishReason
from presafe.thinking import ThinkFormat
from serve.text import CompletionText, Detokeniser, Text


@dataclass(frozen=True)
class Sampling:
    """What a client may choose. All but `max_tokens` applies to Path B only."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True)
class Decided:
    """The path taken, and the head's probability of refusal."""

    path: Path
    refuse_probability: float


@dataclass(frozen=True)
class Finished:
    """The end. `reasoning_tokens` counts Path B's think block up to its closing tag."""

    finish_reason: FinishReason
    completion_tokens: int
    reasoning_tokens: int


Event = Decided | Text | Finished
"""A completion is Decided once, then Text any number of times, then Finished once."""


class Completion:
    """Tokens go in, events come out.

    Why the decision is always decoded greedily: what an aligned model decides is its most probable path. Drawn at a
    client's temperature the decision would be a lottery, with a ticket for every seed. So tokens are greedy until the
    path shows: the decision token has come (Path A), the think block holds text (Path B), or it was closed or left out
    (again Path A: an answer without reasoning). `max_tokens` cannot cut that short. On Path A the rest of the empty
    think block is not left to the model, and the answer is greedy as well: the refusal that was decided is the one
    that is said. On Path B the decision is over, so the client's temperature, top_p, seed and stop apply.
    """

    def __init__(
        self, think_format: ThinkFormat, sampling: Sampling, refuse_probability: float, most_tokens: int
    ) -> None:
        """`most_tokens` is the server's limit, which holds before the decision as well."""
        self.pending: list[int] = []
        """Tokens that the model has yet to read."""
        self._sampling, self._refuse_probability = sampling, refuse_probability
        self._most_tokens = most_tokens
        block = think_format.refuse_completion("")[:-1]
        parting = len(think_format.decision_prefix) + 1
        self._path_a, self._rest_of_block = block[:parting], block[parting:]
        self._detokeniser = Detokeniser(think_format)
        self._text = CompletionText(think_format, sampling.stop)
        self._tokens: list[int] = []
        self._reasoning_tokens = 0
        self._path: Path | None = None
        self._random: torch.Generator | None = None

    def choose(self, logits: torch.Tensor) -> int:
        """The next token, of logits [vocabulary]: greedy, but for Path B at a temperature above 0."""
        if self._path != "think" or self._sampling.temperature == 0:
            return int(logits.argmax())
        if self._random is None:
            self._random = torch.Generator(logits.device)
            if self._sampling.seed is None:
                self._random.seed()
            else:
                self._random.manual_seed(self._sampling.seed)
        return _draw(logits, self._sampling.temperature, self._sampling.top_p, self._random)

    def push(self, token: int) -> list[Event]:
        """Take the next token, and behind the decision token the rest of the empty think block."""
        self.pending = [token]
        if [*self._tokens, token] == self._path_a:
            self.pending += self._rest_of_block
        texts: list[Text] = []
        for each in self.pending:
            self._tokens.append(each)
            texts += self._text.push(self._detokeniser.push(each))
            if not self._text.in_answer:
                self._reasoning_tokens = len(self._tokens)
        return [*self._decision(), *texts]

    @property
    def over(self) -> FinishReason | None:
        """Why the completion ends here, if it does."""
        if self._text.stopped:
            return "stop"
        limit = self._most_tokens if self._path is None else min(self._sampling.max_tokens, self._most_tokens)
        return "length" if len(self._tokens) >= limit else None

    def finish(self, reason: FinishReason, *, unread_tokens: int) -> list[Event]:
        """The last events. `unread_tokens` counts tokens that were generated but not pushed (end of sequence)."""
        texts = self._text.finish()
        decision = self._decision()
        if self._path is None:
            self._path = path_taken("")
            decision = [Decided(self._path, self._refuse_probability)]
        reasoning_tokens = self._reasoning_tokens if self._path == "think" else 0
        return [*decision, *texts, Finished(reason, len(self._tokens) + unread_tokens, reasoning_tokens)]

    def _decision(self) -> list[Decided]:
        """The decision, where the last tokens have made it."""
        if self._path is not None:
            return []
        if self._text.has_reasoning:
            self._path = "think"
        elif self._text.in_answer or self._tokens[: len(self._path_a)] == self._path_a:
            self._path = "refuse"
        return [] if self._path is None else [Decided(self._path, self._refuse_probability)]


def _draw(logits: torch.Tensor, temperature: float, top_p: float, random: torch.Generator) -> int:
    """A token out of the smallest set of most probable ones that holds `top_p`; at least the most probable one."""
    logits = logits.float()
    probabilities, order = torch.softmax((logits - logits.max()) / temperature, -1).sort(descending=True)
    probabilities_before = probabilities.cumsum(-1) - probabilities
    kept = torch.where(probabilities_before > top_p, 0.0, probabilities)
    return int(order[torch.multinomial(kept, 1, generator=random)])
