"""A small BERT of the organism's world, pre-trained by masked language modelling on prompts without labels.

It has seen the training combinations and wrappers and nobody's decision: what it is to a classifier of this world is
what a BERT of the hub is to a real one.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from transformers import BertConfig, BertForMaskedLM, BertTokenizer, DataCollatorForLanguageModeling

from presafe.organism.cache import cached
from presafe.organism.corpus import draw_dialogues
from presafe.organism.options import EncoderRecipe, parse
from presafe.organism.train import batches_by_length, descend, private_torch

MAX_POSITIONS = 128


def build_encoder(cache: str, seed: int, **options: Any) -> str:
    """The folder of a BERT of this seed and these options (see EncoderRecipe), trained unless `cache` holds it already.

    The folder, `CACHE/bert-HASH`, holds safetensors weights (float32) with the masked-language-model head, config,
    tokenizer, and `organism.json` with the recipe. Raises UserError for an unknown or wrong option and a
    cache that is no local folder.
    """
    recipe = parse(EncoderRecipe, "presafe.organism:build_encoder", seed=seed, **options)
    return cached(cache, "bert", recipe, partial(_build_in, recipe))


def pretraining_prompts(recipe: EncoderRecipe) -> list[str]:
    """The prompts of a corpus as the organism's own: training combinations, training wrappers, training numbers."""
    return [dialogue.prompt for dialogue in draw_dialogues(recipe.seed, recipe.prompts)]


def new_tokenizer(texts: Sequence[str], vocab_size: int) -> BertTokenizer:
    """A BertTokenizer of the most frequent words of `texts`; every other word is [UNK].

    Half of the wrappers' random filler are invented words, so that BERT meets [UNK] wherever a word it does not know
    may stand. WordPiece's own trainer numbers its pieces in another order each time.
    """
    counts = Counter(word for text in texts for word in text.split())
    words = sorted(counts, key=lambda word: (-counts[word], word))
    blank = BertTokenizer()
    special = blank.convert_ids_to_tokens(range(len(blank)))
    return BertTokenizer(vocab={token: i for i, token in enumerate([*special, *words][:vocab_size])})


def _build_in(recipe: EncoderRecipe, folder: str) -> dict[str, Any]:
    texts = pretraining_prompts(recipe)
    tokenizer = new_tokenizer(texts, recipe.vocab_size)
    with private_torch(recipe.seed, recipe.threads):
        model = BertForMaskedLM(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=recipe.hidden_size,
                num_hidden_layers=recipe.num_hidden_layers,
                num_attention_heads=recipe.num_attention_heads,
                intermediate_size=2 * recipe.hidden_size,
                max_position_embeddings=MAX_POSITIONS,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        _pretrain(model, tokenizer, texts, recipe)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {}


def _pretrain(model: BertForMaskedLM, tokenizer: Any, texts: list[str], recipe: EncoderRecipe) -> None:
    """Train `model` in place on `texts`, each once: the loss is on the 15 % of the tokens that the collator masks."""
    ids = tokenizer(texts, truncation=True, max_length=MAX_POSITIONS)["input_ids"]
    order = batches_by_length([len(row) for row in ids], recipe.batch_size, f"batches/{recipe.seed}")
    mask = DataCollatorForLanguageModeling(tokenizer)
    losses = (model(**mask([{"input_ids": ids[index]} for index in batch])).loss for batch in order)
    descend(model, losses, len(order), recipe.learning_rate, "bert: pre-training")
