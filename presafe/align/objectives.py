"""What each objective trains: which demonstrations, and where the head reads (docs/alignment.md)."""

from dataclasses import dataclass
from typing import Literal

from presafe.config import Align


@dataclass(frozen=True)
class Objective:
    """`path_a` is what harmful prompts demonstrate: a refusal behind an empty think block, a safety primer, or nothing.

    Path B always demonstrates the model's own trace. `head` is where the signals are trained: at the pre-CoT position,
    on the mean over the sequence, or nowhere.
    """

    path_a: Literal["refusal", "primer", "none"]
    head: Literal["pre_cot", "mean", "none"]


OBJECTIVES = {
    "presafe": Objective("refusal", "pre_cot"),
    "sft": Objective("refusal", "none"),
    "benign": Objective("none", "none"),
    "signals": Objective("none", "pre_cot"),
    "safepath": Objective("primer", "none"),
    "safekey": Objective("refusal", "mean"),
}


def objective(align: Align) -> Objective:
    return OBJECTIVES[align.objective]
