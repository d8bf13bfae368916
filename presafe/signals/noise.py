"""Noise around a query: random pieces of the vocabulary before and after it, under the same label.

Nothing is known of the wrappers that will come. A classifier that has met random words around its queries learns to
find the request among words it does not know (docs/signals.md has what that is worth).
"""

import random
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

NOISY_SHARE = 0.8
"""Of the queries of a batch; the others stay as they are."""


def vocabulary_pieces(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text of each token that is one: no special token, no fragment of a character, nothing blank.

    Pieces from inside of a word stand without WordPiece's mark, which would be read as punctuation.
    """
    special = set(tokenizer.all_special_ids)
    texts = (str(tokenizer.decode([i])).strip().removeprefix("##") for i in range(len(tokenizer)) if i not in special)
    return [text for text in texts if text and "\N{REPLACEMENT CHARACTER}" not in text]


def with_noise(query: str, pieces: Sequence[str], longest: int, rng: random.Random) -> str:
    """The query with up to `longest` random pieces on each side."""
    if rng.random() >= NOISY_SHARE:
        return query
    before, after = ([rng.choice(pieces) for _ in range(rng.randint(0, longest))] for _ in range(2))
    return " ".join([*before, query, *after])
