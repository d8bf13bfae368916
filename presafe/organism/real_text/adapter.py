"""What the base was taught, as a LoRA adapter: written, and merged into the pre-trained weights.

The one that ships, `adapter/`, is a folder of the model cache: PEFT's files, and a card with the key of what it was
taught by. Code that would teach something else has another key, and takes no notice of it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel

from presafe.organism.cache import CARD
from presafe.organism.real_text.contrast import taught_pairs
from presafe.organism.real_text.options import Recipe
from presafe.organism.real_text.wording import WORDING
from presafe.stages import content_hash

SHIPPED = Path(__file__).parent / "adapter"
WEIGHTS = "adapter_model.safetensors"
FILES = (WEIGHTS, "adapter_config.json", CARD)


def key(recipe: Recipe) -> str:
    """Hash of what is taught by this recipe, beside the public prompts, whose hash is in the card, too."""
    return content_hash({"recipe": recipe.model_dump(), "wording": WORDING, "contrast": taught_pairs(recipe)})


def card_of(folder: str | Path) -> dict[str, Any]:
    """Recipe, key, hash of the prompts and self-check figures of an adapter."""
    card: dict[str, Any] = json.loads(Path(folder, CARD).read_text())
    return card


def is_shipped(recipe: Recipe) -> bool:
    """Whether the adapter beside this file was taught by this recipe, in the present wording."""
    return Path(SHIPPED, CARD).exists() and bool(card_of(SHIPPED)["key"] == key(recipe))


def weights_hash(folder: str | Path) -> str:
    return hashlib.sha256(Path(folder, WEIGHTS).read_bytes()).hexdigest()


def merged(model: PreTrainedModel, folder: str | Path) -> PreTrainedModel:
    """`model` with the adapter in `folder` added to its weights."""
    whole = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    assert isinstance(whole, PreTrainedModel)
    return whole.eval()
