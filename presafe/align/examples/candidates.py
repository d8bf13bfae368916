"""Candidates for the training examples, as token ids: demonstrations of Path A and Path B and prompts that have none
(docs/alignment.md). Which of them are taken, and as what, is selection.py's.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from presafe.align.examples.forms import Forms
from presafe.align.objectives import objective
from presafe.config import Align
from presafe.conversation import messages
from presafe.decision.rule import Path
from presafe.errors import UserError
from presafe.records import Demonstration, Example, Prompt, Signal, TeacherAnswer, Trace
from presafe.thinking import ThinkFormat


@dataclass(frozen=True)
class Candidate(Example):
    """An example with the name of its source; `ready` is a ready demonstration, which the limits do not count.

    One `in_form` is its prompt in another form and stands right behind it: a limit takes or leaves both.
    """

    source: str = ""
    ready: bool = False
    in_form: bool = False


@dataclass(frozen=True)
class Sources:
    """What the earlier stages found out, by prompt id."""

    answers: Mapping[str, TeacherAnswer]
    traces: Mapping[str, Trace]
    signals: Mapping[str, Signal]


@dataclass(frozen=True)
class Making:
    """What makes candidates of rows: the model's format, the settings, the seed, and the weights of sources, else 1."""

    think: ThinkFormat
    align: Align
    seed: int
    weights: Mapping[str, float]

    def __call__(
        self, prompts: Iterable[Prompt], ready: Iterable[Demonstration], sources: Sources, skipped: Counter[str]
    ) -> Iterator[Candidate]:
        """Candidates of the splits `align` and `pool` and of ready demonstrations, by `place`.

        Path A: harmful prompts with what the objective demonstrates on them, unless the CoT-OFF teacher did not refuse.
        Path B: benign and reasoning prompts, with the model's own trace, unless the trace did not think. A prompt of
        the align split without a demonstration, and one of split `pool`, has no completion. Behind each of them come
        its copies in other forms, with the same completion and signal. `skipped` counts what was left out.
        """
        forms = Forms.of(self.align, self.seed)
        rows: list[Prompt | Demonstration] = [
            *(prompt for prompt in prompts if prompt.split in ("align", "pool")),
            *ready,
        ]
        rows.sort(key=lambda row: (place(self.seed, row.prompt_id), row.prompt_id))
        for row in rows:
            if isinstance(row, Demonstration):
                yield from self._rendered(partial(self._ready, row, skipped), "", skipped)
                continue
            completion = self._completion(row, sources, skipped)
            whole = list(self._rendered(partial(self._own, row, completion, sources), "", skipped))
            yield from whole
            for copy in forms.copies(row) if whole else ():
                made = partial(self._own, copy, completion, sources, in_form=True)
                yield from self._rendered(made, "copies in other forms: ", skipped)

    def _rendered(
        self, made: Callable[[], Candidate | None], counted_as: str, skipped: Counter[str]
    ) -> Iterator[Candidate]:
        """The candidate, or none where the template does not render it, it is too long, or nothing trains on it."""
        try:
            found = made()
        except UserError:
            skipped[f"{counted_as}conversations that the chat template does not render"] += 1
            return
        if found is None:
            return
        if _tokens(found, self.think) > self.align.micro_batch_tokens:
            skipped[f"{counted_as}longer than align.micro_batch_tokens"] += 1
        elif found.completion or self.align.signal_batch_size:
            yield found
        else:
            skipped[f"{counted_as}without a demonstration"] += 1

    def _own(self, prompt: Prompt, completion: list[int], sources: Sources, *, in_form: bool = False) -> Candidate:
        example = _example(prompt, completion, sources.signals, self.think)
        own = {**vars(example), "weight": self._weight(prompt.source)}
        return Candidate(**own, source=prompt.source, in_form=in_form)

    def _completion(self, prompt: Prompt, sources: Sources, skipped: Counter[str]) -> list[int]:
        """What the prompt demonstrates under the objective; empty for nothing.

        A text with a control token in it ran on into another turn, or has its tags where none belong: not worth
        learning.
        """
        think, goal = self.think, objective(self.align)
        if prompt.split != "align":
            return []
        if prompt.kind == "harmful":
            answer = sources.answers.get(prompt.prompt_id)
            if goal.path_a == "none" or answer is None or answer.decision != "refuse":
                return []
            if goal.path_a == "primer":
                return think.primer_completion(self.align.primer)
            if think.has_control(answer.answer):
                skipped["refusals with a control token in the text"] += 1
                return []
            # What a provider's filter refused has no text to demonstrate.
            return think.refuse_completion(answer.answer) if answer.answer.strip() else []
        trace = sources.traces.get(prompt.prompt_id)
        if trace is None or not trace.reasoning:
            return []
        if think.has_control(trace.reasoning) or think.has_control(trace.answer):
            skipped["traces with a control token in the text"] += 1
            return []
        return think.think_completion(trace.reasoning, trace.answer)

    def _ready(self, row: Demonstration, skipped: Counter[str]) -> Candidate | None:
        """A ready demonstration in the model's own format; None where the objective or the model has no use for it."""
        think, refuses = self.think, row.demonstrates == "refuse"
        if refuses and objective(self.align).path_a != "refusal":
            skipped["ready refusals, which the objective does not demonstrate"] += 1
            return None
        if think.has_control(row.reasoning) or think.has_control(row.answer):
            skipped["ready demonstrations with a control token in the text"] += 1
            return None
        prompt = think.prompt_ids(row.messages)
        completion = (
            think.refuse_completion(row.answer) if refuses else think.think_completion(row.reasoning, row.answer)
        )
        return Candidate(
            row.prompt_id,
            prompt,
            completion,
            row.demonstrates,
            row.refuse_probability,
            self._weight(row.source),
            row.source,
            ready=True,
        )

    def _weight(self, source: str) -> float:
        return self.weights.get(source, 1.0)


def place(seed: int, prompt_id: str) -> int:
    """A prompt's place among all: 64 bits of a hash, so that each is chosen whatever the others are."""
    return int.from_bytes(hashlib.sha256(f"examples {seed}/{prompt_id}".encode()).digest()[:8], "big")


def validation_examples(
    prompts: Iterable[Prompt],
    signals: Mapping[str, Signal],
    think: ThinkFormat,
    limit: int,
    skipped: Counter[str],
    forms: Forms,
) -> Iterator[Example]:
    """Prompts of the validation split without a completion: the head's threshold is calibrated on them.

    Each is asked as it is or in one of the forms, drawn: the threshold and its bound are of such a mixture of
    independent prompts. Their `path` is what their kind asks for. Those above `limit` tokens in a packed row are
    counted in `skipped` and left out, and conversations that the chat template does not render.
    """
    for prompt in prompts:
        if prompt.split != "validation":
            continue
        try:
            found = _example(forms.drawn(prompt), [], signals, think)
        except UserError:
            skipped["validation prompts that the chat template does not render"] += 1
            continue
        if _tokens(found, think) > limit:
            skipped["validation prompts longer than align.micro_batch_tokens"] += 1
        else:
            yield found


def _tokens(example: Example, think: ThinkFormat) -> int:
    """In a packed row, which puts the empty think block behind a prompt without a completion (collate.py)."""
    return len(example.prompt) + len(example.completion or think.empty_block_ids)


def _example(prompt: Prompt, completion: list[int], signals: Mapping[str, Signal], think: ThinkFormat) -> Example:
    ids = think.prompt_ids(messages(prompt))
    path: Path = "refuse" if prompt.kind == "harmful" else "think"
    return Example(prompt.prompt_id, ids, completion, path, signals[prompt.prompt_id].refuse_probability)
