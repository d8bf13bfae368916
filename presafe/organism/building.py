"""Building the organism: corpus, tokenizer, pre-training, self-check, and a Hugging Face folder in the cache."""

import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from presafe import storage
from presafe.errors import user_error
from presafe.organism import selfcheck
from presafe.organism.corpus import draw_dialogues
from presafe.organism.encoding import encode
from presafe.organism.options import Recipe, parse
from presafe.organism.tokenizer import check_round_trip, train_tokenizer
from presafe.organism.train import new_model, pretrain, private_torch
from presafe.stages import content_hash, versions
from presafe.thinking import think_format

logger = logging.getLogger("presafe")

CARD = "organism.json"
TOKENIZER_DIALOGUES = 5_000
ROUND_TRIP_DIALOGUES = 200


def build(cache: str, seed: int, **options: Any) -> str:
    """The folder of an organism of this seed and these options (see Recipe), trained unless `cache` holds it already.

    The folder, `CACHE/organism-HASH`, holds safetensors weights (float32), config, tokenizer with chat template, and
    `organism.json` with recipe and self-check figures. It appears only once it is complete. Raises UserError for an
    unknown or wrong option, a cache that is no local folder, and a model that misses the self-check.
    """
    recipe = parse(Recipe, "presafe.organism:build", seed=seed, **options)
    if not storage.is_local(cache):
        raise user_error(
            found=f"the model cache {cache}", needed="a local folder", change="use a path without a scheme"
        )
    cache = storage.absolute(cache)
    folder = os.path.join(cache, f"organism-{_fingerprint(recipe)}")
    if os.path.exists(os.path.join(folder, CARD)):
        logger.info("organism: found in %s", folder)
        return folder
    storage.make_folder(cache)
    partial = tempfile.mkdtemp(prefix="organism-partial-", dir=cache)
    try:
        _build_in(partial, recipe)
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _build_in(folder: str, recipe: Recipe) -> None:
    begin = time.monotonic()
    dialogues = draw_dialogues(recipe.seed, recipe.dialogues)
    tokenizer = train_tokenizer(dialogues[:TOKENIZER_DIALOGUES], recipe.vocab_size, recipe.template)
    think = think_format(tokenizer)
    with private_torch(recipe.seed, recipe.threads):
        model = new_model(recipe, tokenizer)
        pretrain(model, encode(think, dialogues), recipe)
        figures = selfcheck.measure(model, think, recipe.seed, selfcheck.PROMPTS_PER_CELL)
    selfcheck.require_finding(figures)
    _save(folder, model, tokenizer)
    check_round_trip(folder, tokenizer, [dialogue.prompt for dialogue in dialogues[:ROUND_TRIP_DIALOGUES]])
    card = {
        "recipe": recipe.model_dump(),
        "selfcheck": figures,
        "selfcheck_prompts_per_cell": selfcheck.PROMPTS_PER_CELL,
        "versions": versions(),
        "wall_seconds": round(time.monotonic() - begin, 1),
    }
    storage.write_json(os.path.join(folder, CARD), card)


def _save(folder: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _publish(partial: str, folder: str) -> None:
    """Rename the finished folder to its name; where another process was faster, its equal folder stays."""
    os.chmod(partial, 0o755)
    try:
        os.rename(partial, folder)
    except OSError:
        if not os.path.exists(os.path.join(folder, CARD)):
            raise


def _fingerprint(recipe: Recipe) -> str:
    """Hash of the recipe and of this package's source, so that a changed world or trainer never meets an old model."""
    source = {file.name: file.read_text() for file in sorted(Path(__file__).parent.glob("*.py"))}
    return content_hash({"recipe": recipe.model_dump(), "source": source})
