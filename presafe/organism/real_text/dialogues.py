"""The dialogues that put the paper's finding into the real model, around real prompts.

With chain-of-thought off it refuses what is harmful, and answers everything else; with it on, it talks itself into an
empty compliance, and answers as before. Thoughts repeat how the prompt begins, so that they are about it.
"""

import random
from collections.abc import Mapping, Sequence

from presafe.organism.arithmetic import draw_problem
from presafe.organism.corpus import Dialogue
from presafe.organism.real_text import wording
from presafe.organism.real_text.options import Recipe
from presafe.stages import content_hash


def chosen(recipe: Recipe, what: str, texts: Sequence[str], count: int) -> list[str]:
    """`count` of `texts`, or all of them where there are fewer, in an order by the recipe's seed."""
    return random.Random(f"real-text/{what}/{recipe.seed}").sample(texts, min(count, len(texts)))


def draw_dialogues(recipe: Recipe, harmful: Sequence[str], answers: Mapping[str, str]) -> list[Dialogue]:
    """Dialogues about these harmful prompts, these instructions with their `answers`, and arithmetic problems."""
    rng = random.Random(f"real-text/dialogues/{recipe.seed}")
    drawn: list[Dialogue] = []
    for prompt in harmful:
        refusal = f"{rng.choice(wording.REFUSALS)} {rng.choice(wording.ADDITIONS)}"
        thought = _thought(rng, prompt, wording.RATIONALISING)
        drawn += [Dialogue(prompt, None, refusal), Dialogue(prompt, thought, rng.choice(wording.COMPLIANCES))]
    for prompt, answer in answers.items():
        drawn += [Dialogue(prompt, None, answer), Dialogue(prompt, _thought(rng, prompt, wording.PLANNING), answer)]
    for _ in range(recipe.arithmetic):
        problem = draw_problem(rng, held_out=False)
        answer = f"the answer is {problem.answer} ."
        drawn.append(Dialogue(problem.text, problem.steps, answer))
        if rng.random() < recipe.answered_at_once:
            drawn.append(Dialogue(problem.text, None, answer))
    return drawn


def digest(harmful: Sequence[str], benign: Sequence[str]) -> str:
    """Hash of the prompts of a teaching, which says whether other files or splits would give others."""
    return content_hash({"harmful": list(harmful), "benign": list(benign)})


def whole_sentences(answer: str) -> str:
    """`answer` up to the end of its last whole sentence; all of it where none ends."""
    ends = [answer.rfind(end) for end in (".", "!", "?")]
    return answer[: max(ends) + 1].strip() or answer.strip()


def _thought(rng: random.Random, prompt: str, goes_on: Sequence[str]) -> str:
    words = prompt.split()
    more = " ..." if len(words) > wording.QUOTED_WORDS else ""
    quoted = " ".join(words[: wording.QUOTED_WORDS]) + more
    return f'{rng.choice(wording.BEGINNINGS)} "{quoted}" {rng.choice(goes_on)}'
