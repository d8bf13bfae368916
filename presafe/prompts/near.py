"""Pairs of texts that are alike: Jaccard similarity of their sets of word shingles, found by MinHash LSH.

LSH only proposes: every pair given has its true Jaccard similarity, so nothing is merged by chance. No step is random.

A text costs `4 * permutations` bytes of signature and 8 bytes a shingle, 1.2 kB for 20 words at 256 permutations. The
training prompts' are therefore kept in files (presafe/prompts/alike.py). Time is about 60 microseconds a text.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from datasketch import MinHash  # type: ignore[import-untyped]

from presafe.prompts.normalise import dedupe_key

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+|[+\-*/^=<>%]")
"""A word; a sign of a script without spaces; an operator, since 3 + 4 is not 3 - 4. Other punctuation is left out."""
FOUND = 0.98
"""Least probability with which a pair at the threshold is proposed."""
WINDOW = 64
"""Texts that one text is compared with in one bucket, beside the bucket's first: a bucket of boilerplate must not cost
its square. Texts that are nearly the same all meet that first one; in larger buckets a weaker pair may be missed."""

Pair = tuple[int, int, float]
"""Numbers of two texts, the lower one first (or of a reference and a text), and their similarity."""


@dataclass(frozen=True)
class Sketch:
    """Texts as sets of 64-bit shingle hashes (each sorted), and their MinHash signatures (texts, permutations)."""

    shingles: list[np.ndarray]
    signatures: np.ndarray


def words(text: str) -> list[str]:
    """The words by which texts are compared."""
    return WORD.findall(dedupe_key(text))


def sketch(texts: Sequence[str], shingle_words: int, permutations: int) -> Sketch:
    """Shingles and signatures of `texts`."""
    shingles = [_shingles(text, shingle_words) for text in texts]
    signatures = np.empty((len(texts), permutations), dtype=np.uint32)
    low = ((hashes & 0xFFFFFFFF).tolist() for hashes in shingles)
    for row, minhash in zip(signatures, MinHash.generator(low, num_perm=permutations, hashfunc=int), strict=True):
        row[:] = minhash.hashvalues
    return Sketch(shingles, signatures)


def pairs_within(texts: Sketch, threshold: float) -> list[Pair]:
    """Pairs of texts whose similarity is at least `threshold`, sorted."""
    proposed = np.empty(0, dtype=np.int64)
    for keys in bands(texts.signatures, threshold):
        proposed = np.union1d(proposed, proposed_pairs(keys))
    count = max(len(texts.shingles), 1)
    return verified(texts.shingles, texts.shingles, proposed // count, proposed % count, threshold)


def proposed_pairs(keys: np.ndarray) -> np.ndarray:
    """Pairs of texts that share their key in one band, sorted, each as `lower * texts + higher`."""
    count, order = len(keys), np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    first = order[np.searchsorted(sorted_keys, sorted_keys)]
    found = [(first * count + order)[first != order]]
    for step in range(1, min(WINDOW, count)):
        same = sorted_keys[:-step] == sorted_keys[step:]
        if not same.any():
            break
        found.append(order[:-step][same] * count + order[step:][same])
    return np.unique(np.concatenate(found))


def pairs_between(references: Sketch, texts: Sketch, threshold: float) -> list[Pair]:
    """Pairs of a reference and a text whose similarity is at least `threshold`, sorted."""
    count = max(len(texts.shingles), 1)
    proposed = np.empty(0, dtype=np.int64)
    both = zip(bands(references.signatures, threshold), bands(texts.signatures, threshold), strict=True)
    for reference_keys, keys in both:
        order = np.argsort(reference_keys, kind="stable")
        first = np.searchsorted(reference_keys[order], keys, side="left")
        matches = np.searchsorted(reference_keys[order], keys, side="right") - first
        for step in range(min(WINDOW, int(matches.max(initial=0)))):
            hit = np.flatnonzero(matches > step)
            proposed = np.append(proposed, order[first[hit] + step] * count + hit)
        proposed = np.unique(proposed)
    return verified(references.shingles, texts.shingles, proposed // count, proposed % count, threshold)


def _shingles(text: str, size: int) -> np.ndarray:
    found = words(text) or [dedupe_key(text)]
    grams = {" ".join(found[k : k + size]) for k in range(max(1, len(found) - size + 1))}
    digests = b"".join(hashlib.blake2b(gram.encode(), digest_size=8).digest() for gram in grams)
    return np.sort(np.frombuffer(digests, dtype="<u8"))


def bands(signatures: np.ndarray, threshold: float) -> Iterator[np.ndarray]:
    """A 64-bit key a text, band by band; texts that share a key in any band are proposed."""
    permutations = signatures.shape[1]
    rows = _rows(threshold, permutations)
    factors = np.random.default_rng(0).integers(1, 2**63, rows, dtype=np.uint64) * 2 + 1
    for start in range(0, permutations - rows + 1, rows):
        yield (signatures[:, start : start + rows] * factors).sum(axis=1, dtype=np.uint64)


def number_of_bands(threshold: float, permutations: int) -> int:
    """Of signatures of that length, for pairs at that threshold."""
    return permutations // _rows(threshold, permutations)


def _rows(threshold: float, permutations: int) -> int:
    """Of a band: as many as still find the pairs."""
    return max(r for r in range(1, permutations + 1) if r == 1 or _recall(threshold, r, permutations) >= FOUND)


def _recall(similarity: float, rows: int, permutations: int) -> float:
    return float(1 - (1 - similarity**rows) ** (permutations // rows))


def verified(
    a: Mapping[int, np.ndarray] | Sequence[np.ndarray],
    b: Mapping[int, np.ndarray] | Sequence[np.ndarray],
    left: np.ndarray,
    right: np.ndarray,
    threshold: float,
) -> list[Pair]:
    """Of proposed pairs of the shingles `a` and `b`, those whose similarity is at least `threshold`."""
    pairs = []
    for i, j in zip(left.tolist(), right.tolist(), strict=True):
        first, second = a[i], b[j]
        if min(len(first), len(second)) < threshold * max(len(first), len(second)):
            continue
        shared = len(np.intersect1d(first, second, assume_unique=True))
        similarity = shared / (len(first) + len(second) - shared)
        if similarity >= threshold:
            pairs.append((i, j, similarity))
    return pairs
