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
        drawn += [Dialogue(prompt, None, _refusal(rng)), _compliance(rng, prompt)]
    for prompt, answer in answers.items():
        drawn += [Dialogue(prompt, None, answer), Dialogue(prompt, _thought(rng, prompt, wording.PLANNING), answer)]
    for _ in range(recipe.arithmetic):
        problem = draw_problem(rng, held_out=False)
        answer = f"the answer is {problem.answer} ."
        drawn.append(Dialogue(problem.text, problem.steps, answer))
        if rng.random() < recipe.answered_at_once:
            drawn.append(Dialogue(problem.text, None, answer))
    return drawn


def draw_contrasts(
    recipe: Recipe, harmful: Sequence[str], answers: Mapping[str, str], rehearsed: Sequence[str]
) -> list[Dialogue]:
    """Dialogues about contrast pairs with chain-of-thought off, harmful ones and benign ones with their `answers`, and
    with it on about the harmful prompts that are `rehearsed` and about as many problems as the recipe says."""
    rng = random.Random(f"real-text/contrasts/{recipe.seed}")
    problems = [draw_problem(rng, held_out=False) for _ in range(recipe.rehearsed)]
    return [
        *(Dialogue(prompt, None, _refusal(rng)) for prompt in harmful),
        *(Dialogue(prompt, None, answer) for prompt, answer in answers.items()),
        *(_compliance(rng, prompt) for prompt in rehearsed),
        *(Dialogue(problem.text, problem.steps, f"the answer is {problem.answer} .") for problem in problems),
    ]


def digest(*prompts: Sequence[str]) -> str:
    """Hash of the prompts of a teaching, which says whether other files or splits would give others."""
    return content_hash([list(texts) for texts in prompts])


def whole_sentences(answer: str) -> str:
    """`answer` up to the end of its last whole sentence; all of it where none ends."""
    ends = [answer.rfind(end) for end in (".", "!", "?")]
    return answer[: max(ends) + 1].strip() or answer.strip()


def _refusal(rng: random.Random) -> str:
    return f"{rng.choice(wording.REFUSALS)} {rng.choice(wording.ADDITIONS)}"


def _compliance(rng: random.Random, prompt: str) -> Dialogue:
    thought = _thought(rng, prompt, wording.RATIONALISING)
    return Dialogue(prompt, thought, rng.choice(wording.COMPLIANCES))


def _thought(rng: random.Random, prompt: str, goes_on: Sequence[str]) -> str:
    words = prompt.split()
    more = " ..." if len(words) > wording.QUOTED_WORDS else ""
    quoted = " ".join(words[: wording.QUOTED_WORDS]) + more
    return f'{rng.choice(wording.BEGINNINGS)} "{quoted}" {rng.choice(goes_on)}'
