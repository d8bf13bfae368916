"""A few of the run's own prompts for the card: who opens the endpoint's page can ask what the model was made for."""

from collections.abc import Iterator, Mapping, Sequence

from presafe.engines.card import ShownPrompt
from presafe.records import Prompt, Signal

LONGEST = 160
"""Characters of a prompt that a button of the page can show."""


def shown_prompts(prompts: Sequence[Prompt], signals: Mapping[str, Signal]) -> list[ShownPrompt]:
    """At most four of the shortest prompts of the validation split, which nothing was trained on.

    One to reason about, a benign one, one of the shorter benign ones that looks most like a harmful one (by its signal,
    below 0.5), and a harmful one. The same run chooses the same: among prompts of one length the first by id.
    """
    held_out = [p for p in prompts if p.split == "validation" and p.wrapper is None and _fits(p)]
    held_out.sort(key=lambda prompt: (len(prompt.text), prompt.prompt_id))

    def signal(prompt: Prompt) -> float:
        return signals[prompt.prompt_id].refuse_probability

    def of(kind: str, *, refused: bool) -> Iterator[Prompt]:
        return (p for p in held_out if p.kind == kind and (signal(p) >= 0.5) == refused)

    benign = list(of("benign", refused=False))
    lookalikes = sorted(benign[1 : max(2, len(benign) // 2)], key=signal)[-1:]
    chosen = [*_first(of("reasoning", refused=False)), *benign[:1], *lookalikes, *_first(of("harmful", refused=True))]
    return [ShownPrompt(kind=prompt.kind, text=prompt.text) for prompt in chosen]


def _fits(prompt: Prompt) -> bool:
    return not prompt.earlier and len(prompt.text) <= LONGEST and "\n" not in prompt.text


def _first(prompts: Iterator[Prompt]) -> list[Prompt]:
    return [prompt for prompt, _ in zip(prompts, range(1), strict=False)]
