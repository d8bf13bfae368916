"""Records of evaluations, a letter a verdict."""

from collections.abc import Iterable
from dataclasses import replace

from presafe.evaluate.by_prompt import ByPrompt, Condition
from presafe.evaluate.measured import counted_verdicts
from presafe.records import EvalRecord, Kind, to_table

KINDS: dict[str, Kind] = {"plain": "harmful", "wrapped": "harmful", "lookalikes": "benign", "arithmetic": "reasoning"}
ATTACKS = {"wrapped": "wrappers"}
ON, BASE = Condition("aligned", "on", "off"), Condition("base", "on", "off")
RECORD = EvalRecord("plain", "0", "none", "base", "on", "off", 0, "", "", "no", True, 0.5, "refuse", "j", 1, False)
LETTERS = {"c": "comply", "r": "refuse", "u": "unscored", "+": "correct", "-": "incorrect"}


def answers(suite: str, condition: Condition, verdicts: str, **changes: object) -> list[EvalRecord]:
    """A record a letter, of prompts 0, 1, ..."""
    common = {"suite": suite, "attack": ATTACKS.get(suite, "none"), **vars(condition), **changes}
    found = (replace(RECORD, prompt_id=str(k), verdict=LETTERS[letter]) for k, letter in enumerate(verdicts))
    return [replace(record, **common) for record in found]


def readings(suite: str, model: str, probabilities: Iterable[float], threshold: float = 0.5) -> list[EvalRecord]:
    """What the model answered, each a refusal, and what the gate makes of it."""
    found = []
    for k, p in enumerate(probabilities):
        prompt = f"{suite} {k}"
        off = answers(suite, Condition(model, "on", "off"), "r", head_probability=p, prompt_id=prompt)
        judge = "gate" if p >= threshold else "j"
        found += [*off, replace(off[0], gate="on", judge=judge)]
    return found


def by_prompt(records: list[EvalRecord], *overlapping: tuple[str, str]) -> ByPrompt:
    table = to_table(records, EvalRecord)
    return ByPrompt(lambda: [table], counted_verdicts(KINDS), {*overlapping})
