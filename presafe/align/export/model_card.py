"""The model card, `README.md` of an exported model in Hugging Face's format: what `presafe.json` holds, for people."""

from importlib.resources import files
from typing import Any

import jinja2
import yaml

from presafe import storage
from presafe.engines.card import Card, VocabularyRow
from presafe.statistics import fewest_draws

LARGE_ERROR = 1e-2
"""A probability that rounding the head to the model's dtype may cost before the model card warns."""


def model_card(card: Card, row: VocabularyRow | None) -> str:
    """Markdown behind YAML front matter; `row` is that of `merged-gate/`, where there is one."""
    front = {
        "base_model": card.base_model,
        "library_name": "transformers" if card.weights == "full" else "peft",
        "license": base_license(card.base_model),
        "pipeline_tag": "text-generation",
        "tags": ["presafe", "safety", "reasoning", "lora" if card.weights == "adapter" else "full-fine-tuning"],
    }
    template = files("presafe.align.export").joinpath("model_card.md.j2").read_text(encoding="utf-8")
    page = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    settings = {key: value for key, value in _flat(card.training) if value is not None}
    return page.from_string(template).render(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        card=card,
        row=row,
        gate=describe_threshold(card),
        large_error=LARGE_ERROR,
        settings=settings,
    )


def describe_threshold(card: Card) -> str:
    """Where the gate refuses, what that costs on benign prompts, and what a bound that is too high would take."""
    threshold = f"Threshold {card.threshold:.6g} of the probability of refusal"
    allowed, found, counted = _percent(card.max_over_refusal), card.over_refusal, card.calibration
    if counted is None:
        refused = "" if found is None else f": it refuses {_percent(found)} of the benign validation prompts"
        return f"{threshold}{refused}, at most {allowed} were allowed."
    said = (
        f"{threshold}: it refuses {counted.refused} of {counted.prompts} benign validation prompts "
        f"({_percent(counted.refused / counted.prompts)}, at most {allowed} were allowed) and, at 95 % confidence, at "
        f"most {_percent(counted.over_refusal_bound)} of prompts drawn as they were."
    )
    if not 0 < card.max_over_refusal < counted.over_refusal_bound:
        return said
    return (
        f"{said} To show at most {allowed} takes at least {fewest_draws(card.max_over_refusal)} of them, none refused "
        f"(`gate.max_over_refusal: 0`)."
    )


def base_license(base: str) -> str:
    """What the front matter of the base's own README.md says, else `unknown`."""
    path = storage.join(base, "README.md")
    if not storage.exists(path):
        return "unknown"
    front = storage.read_text(path).split("---\n", 2)
    if len(front) < 3 or front[0].strip():
        return "unknown"
    try:
        fields = yaml.safe_load(front[1])
    except yaml.YAMLError:
        return "unknown"
    return str(fields.get("license", "unknown")) if isinstance(fields, dict) else "unknown"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _flat(settings: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Dotted names and values."""
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        name = f"{path}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return found
