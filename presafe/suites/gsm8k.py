"""GSM8K: word problems of grade school mathematics; a test set, and a training set."""

from presafe.suites.forms import BOXED
from presafe.suites.public import PublicSuite

_SHARED = {
    "dataset": "openai/gsm8k",
    "subset": "main",
    "revision": "740312add88f781978c0658806c59bc2815b9866",
    "columns": {"text": "question", "reference": "answer"},
    "extract": {"reference": "#### (.+)"},
    "form": BOXED,
    "kind": "reasoning",
}
_CITATION = "Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, arXiv:2110.14168"

GSM8K = PublicSuite(
    name="gsm8k",
    source={**_SHARED, "split": "test", "rows": 1319},
    licence="MIT",
    citation=_CITATION,
    grader="number",
)
GSM8K_TRAIN = PublicSuite(
    name="gsm8k_train",
    source={**_SHARED, "split": "train", "rows": 7473},
    licence="MIT",
    citation=_CITATION,
    grader="number",
    note="for training",
)
