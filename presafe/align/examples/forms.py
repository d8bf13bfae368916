"""Other forms in which training prompts are asked: the same request in another conversation, for the same decision."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from presafe.attacks.attacked import Attacked
from presafe.attacks.catalogue import under
from presafe.config import Align
from presafe.records import Kind, Prompt

Written = Callable[[Prompt], Attacked]


@dataclass(frozen=True)
class Forms:
    """The forms of `align.forms`, each with the kinds of prompts that it is for; by default none."""

    forms: tuple[tuple[list[Kind], Written], ...] = ()
    per_prompt: int | None = None
    seed: int = 0

    @classmethod
    def of(cls, align: Align, seed: int) -> Self:
        """Raises UserError where a form lacks what it works with."""
        return cls(tuple((form.kinds, under(form, seed)) for form in align.forms), align.forms_per_prompt, seed)

    def copies(self, prompt: Prompt) -> list[Prompt]:
        """The prompt in drawn forms, different ones; a copy has the id of the prompt, whose decision it takes."""
        return list(self._copies(prompt, self._rng("copies", prompt)))

    def drawn(self, prompt: Prompt) -> Prompt:
        """The prompt as it is or one of its copies, each as probable as the others."""
        rng = self._rng("drawn", prompt)
        return rng.choice([prompt, *self.copies(prompt)])

    def _copies(self, prompt: Prompt, rng: random.Random) -> Iterator[Prompt]:
        fitting = [written for kinds, written in self.forms if prompt.kind in kinds]
        count = len(fitting) if self.per_prompt is None else min(self.per_prompt, len(fitting))
        for written in rng.sample(fitting, count):
            asked = written(prompt)
            yield replace(prompt, text=asked.text, earlier=list(asked.earlier))

    def _rng(self, what: str, prompt: Prompt) -> random.Random:
        return random.Random(f"forms {what} {self.seed}/{prompt.prompt_id}")
