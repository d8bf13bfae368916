"""Building the organism: corpus, tokenizer, pre-training, self-check, and a Hugging Face folder in the cache."""

from functools import partial
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from presafe.organism import selfcheck
from presafe.organism.cache import cached
from presafe.organism.corpus import draw_dialogues
from presafe.organism.encoding import encode
from presafe.organism.options import Recipe, parse
from presafe.organism.tokenizer import check_reloaded, train_tokenizer
from presafe.organism.train import new_model, pretrain, private_torch
from presafe.thinking import think_format

TOKENIZER_DIALOGUES = 5_000
ROUND_TRIP_DIALOGUES = 200


def build(cache: str, seed: int, **options: Any) -> str:
    """The folder of an organism of this seed and these options (see Recipe), trained unless `cache` holds it already.

    The folder, `CACHE/organism-HASH`, holds safetensors weights (float32), config, tokenizer with chat template, and
    `organism.json` with recipe and self-check figures. Raises UserError for an unknown or wrong option, a cache that is
    no local folder, and a model that misses the self-check.
    """
    recipe = parse(Recipe, "presafe.organism:build", seed=seed, **options)
    return cached(cache, "organism", recipe, partial(_build_in, recipe))


def _build_in(recipe: Recipe, folder: str) -> dict[str, Any]:
    dialogues = draw_dialogues(recipe.seed, recipe.dialogues)
    tokenizer = train_tokenizer(dialogues[:TOKENIZER_DIALOGUES], recipe.vocab_size, recipe.template)
    think = think_format(tokenizer)
    with private_torch(recipe.seed, recipe.threads):
        model = new_model(recipe, tokenizer)
        pretrain(model, encode(think, dialogues), recipe)
        figures = selfcheck.measure(model, think, recipe.seed, selfcheck.PROMPTS_PER_CELL)
    selfcheck.require_finding(figures)
    _save(folder, model, tokenizer)
    check_reloaded(folder, tokenizer, [dialogue.prompt for dialogue in dialogues[:ROUND_TRIP_DIALOGUES]])
    return {"selfcheck": figures, "selfcheck_prompts_per_cell": selfcheck.PROMPTS_PER_CELL}


def _save(folder: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
