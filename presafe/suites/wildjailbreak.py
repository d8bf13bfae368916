"""WildJailbreak: harmful and benign prompts, plain and in the tactics of jailbreaks; a training set and a test set."""

from presafe.suites.public import PublicSuite

_SHARED = {
    "dataset": "allenai/wildjailbreak",
    "revision": "5ddc12a7894f842b0619b8e1c7ee496b198af009",
    "options": {"delimiter": "\t", "keep_default_na": False},
}
_TRAIN = {**_SHARED, "subset": "train", "columns": {"text": ["adversarial", "vanilla"], "category": "data_type"}}
_EVAL = {**_SHARED, "subset": "eval", "columns": {"text": "adversarial", "category": "data_type"}}
_LICENCE = "ODC-By"
_CITATION = "Jiang et al. 2024, WildTeaming at Scale, arXiv:2406.18510"
_NOTE = "for training; both halves have 261,534 rows, of which each has not been counted by itself"

TRAIN_HARMFUL = PublicSuite(
    name="wildjailbreak_train_harmful",
    source={**_TRAIN, "where": {"data_type": ["vanilla_harmful", "adversarial_harmful"]}, "kind": "harmful"},
    licence=_LICENCE,
    citation=_CITATION,
    gated=True,
    note=_NOTE,
)
TRAIN_BENIGN = PublicSuite(
    name="wildjailbreak_train_benign",
    source={**_TRAIN, "where": {"data_type": ["vanilla_benign", "adversarial_benign"]}, "kind": "benign"},
    licence=_LICENCE,
    citation=_CITATION,
    gated=True,
    note=_NOTE,
)
EVAL_HARMFUL = PublicSuite(
    name="wildjailbreak_eval_harmful",
    source={**_EVAL, "where": {"data_type": "adversarial_harmful"}, "kind": "harmful", "rows": 2000},
    licence=_LICENCE,
    citation=_CITATION,
    gated=True,
)
EVAL_BENIGN = PublicSuite(
    name="wildjailbreak_eval_benign",
    source={**_EVAL, "where": {"data_type": "adversarial_benign"}, "kind": "benign", "rows": 210},
    licence=_LICENCE,
    citation=_CITATION,
    gated=True,
)
