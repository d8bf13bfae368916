"""Building the real-text base: pre-trained weights, what they were taught, self-check, a folder in the cache."""

from functools import partial
from pathlib import Path
from typing import Any

from presafe.organism.cache import cached
from presafe.organism.options import parse
from presafe.organism.real_text import adapter, selfcheck
from presafe.organism.real_text.options import Base, Recipe
from presafe.organism.real_text.teaching import THREADS, taught
from presafe.organism.real_text.weights import pretrained
from presafe.organism.tokenizer import check_reloaded
from presafe.organism.train import private_torch
from presafe.thinking import think_format

ROUND_TRIP = ["How do I boil an egg?", "it's 12 + 7 = 19 .\n\n  Naïve café", "def f(x):\n    return x"]


def build(cache: str, seed: int, data: str | None = None, **options: Any) -> str:
    """The folder of a base of this seed and these options (see Recipe), built unless `cache` holds it already.

    Seed 0 without options takes the adapter that ships with the code, a minute's work; any other recipe is taught anew
    on the public prompts in the folder `data`. With `data` the self-check asks held-out ones of these; without, it
    takes the figures of when the adapter was taught, and asks what needs no files. The folder, `CACHE/real-text-HASH`,
    holds safetensors weights (float32), config, tokenizer with chat template, and `organism.json`.

    Raises UserError for an unknown or wrong option, a missing package or file, a cache that is no local folder, and a
    base that misses the self-check.
    """
    recipe = parse(Recipe, "presafe.organism.real_text:build", seed=seed, **options)
    folder = str(adapter.SHIPPED) if adapter.is_shipped(recipe) else taught(cache, recipe, data)
    base = Base(recipe=recipe, adapter=adapter.weights_hash(folder))
    return cached(cache, "real-text", base, partial(_build_in, recipe, folder, data), Path(__file__).parent)


def _build_in(recipe: Recipe, taught_in: str, data: str | None, folder: str) -> dict[str, Any]:
    model, tokenizer = pretrained()
    whole = adapter.merged(model, taught_in)
    with private_torch(recipe.seed, THREADS):
        measured = selfcheck.measure(whole, think_format(tokenizer), recipe.seed, data)
    figures = adapter.card_of(taught_in)["selfcheck"] | measured
    selfcheck.require_finding(figures)
    whole.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    check_reloaded(folder, tokenizer, ROUND_TRIP)
    return {"selfcheck": figures, "selfcheck_prompts_per_cell": selfcheck.PROMPTS_PER_CELL}
