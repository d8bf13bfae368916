"""Which training prompts are alike, by files of sketches: a process holds numbers of all prompts, and texts of a file.

A block of rows is a file in each of these folders: `rows` (SourceRow), `heads` (numbers), `sketches`
(shingles, and a column of keys a band), `overlaps` (NumberedOverlap). A band is compared by itself, since its column is
8 bytes a prompt; the pairs that bands propose are then verified by ranges of the lower number.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from presafe import storage
from presafe.config import Cluster, NearDuplicates
from presafe.conversation import Turn, joined, messages, said_to_users, transcript, user_turns
from presafe.prompts.blocks import block_name, blocks, for_each, tables
from presafe.prompts.cluster import Pairs
from presafe.prompts.contamination import References
from presafe.prompts.near import Sketch, bands, number_of_bands, proposed_pairs, sketch, verified
from presafe.prompts.normalise import dedupe_key
from presafe.records import Kind, SuiteOverlap, prompt_id, to_table
from presafe.suites import compared_prompts

RANGE = 131_072
"""Prompts whose pairs are verified at once."""


@dataclass(frozen=True)
class SourceRow:
    """A prompt as its source gave it: the user's turn and the turns before it."""

    text: str
    kind: Kind
    category: str | None
    reference: str | None
    source: str
    earlier: list[Turn] = field(default_factory=list)


@dataclass(frozen=True)
class NumberedOverlap(SuiteOverlap):
    """An overlap of row `number` of a block."""

    number: int


@dataclass(frozen=True)
class Work:
    """Where the stage works, with how many rows a block, and what it compares with: of the folder `suites` those of the
    names `clear_of`."""

    folder: str
    suites: str
    clear_of: tuple[str, ...]
    near: NearDuplicates
    stamp: str
    """Of the suites' prompts."""
    block: int

    def path(self, *names: str) -> str:
        return storage.join(self.folder, *names)

    def overlaps(
        self, rows: Sequence[tuple[Sequence[str], str, str]], first: int, own: Sketch | None = None
    ) -> list[NumberedOverlap]:
        """Of (users' turns, source, prompt_id), numbered from `first` on, with the suites; `own` is their sketch."""
        found = _references(self).overlaps([turns for turns, *_ in rows], own)
        return [NumberedOverlap(**vars(one.named(*rows[one.text][1:])), number=first + one.text) for one in found]


@lru_cache(maxsize=1)
def _references(work: Work) -> References:
    rows = compared_prompts(work.suites)
    return References([prompt for prompt in rows if prompt.source in work.clear_of], work.near)


def look_at_block(work: Work, name: str) -> int:
    """Write heads, sketches and overlaps of a block of rows; returns how many overlaps.

    A head is the prompt's id as a number; `key`, a hash of the spelling under which two are the same; and `need`, one
    of kind, reference, system message and answers, since of two that are alike but differ in these both are needed.
    What is compared are the users' turns.
    """
    rows = [SourceRow(**row) for row in storage.read_table(work.path("rows", name)).to_pylist()]
    asked = [user_turns(messages(row)) for row in rows]
    own = sketch([joined(turns) for turns in asked], work.near.shingle_words, work.near.permutations)
    ids = [prompt_id(row.text, row.earlier) for row in rows]
    heads = {
        "prompt_id": [int(one, 16) for one in ids],
        "key": [storage.short_hash(dedupe_key(transcript(row))) for row in rows],
        "need": [
            storage.short_hash(json.dumps([row.kind, row.reference, *said_to_users(row.earlier)])) for row in rows
        ],
    }
    storage.write_tables(work.path("heads", name), [pa.table({k: pa.array(v, pa.uint64()) for k, v in heads.items()})])
    keys = {_band(k): keys for k, keys in enumerate(bands(own.signatures, work.near.cluster_threshold))}
    shingles = pa.array(own.shingles, pa.list_(pa.uint64()))
    storage.write_tables(work.path("sketches", name), [pa.table({"shingles": shingles, **keys})])
    found = work.overlaps([(turns, row.source, one) for turns, row, one in zip(asked, rows, ids, strict=True)], 0, own)
    storage.write_tables(work.path("overlaps", name), [to_table(found, NumberedOverlap)])
    return len(found)


def read_heads(work: Work, name: Literal["prompt_id", "key", "need"]) -> np.ndarray:
    """One number of every row."""
    return column(tables(work.path("heads"), [name]), name, np.uint64)


def similar_pairs(work: Work, kept: np.ndarray, cluster: Cluster | None) -> Pairs:
    """Pairs of the prompts for which `kept` is true, numbered among these, that are alike enough for a cluster."""
    number = number_of_bands(work.near.cluster_threshold, work.near.permutations)
    for_each(range(number), partial(_propose, work, kept), cluster)
    ranges = range(-(-int(kept.sum()) // RANGE))
    for_each(ranges, partial(_verify, work, kept), cluster)
    found = list(tables(work.path("pairs")))
    left, right = (column(found, name, np.int64) for name in ("left", "right"))
    return Pairs(left, right, column(found, "similarity", np.float64))


def _propose(work: Work, kept: np.ndarray, band: int) -> int:
    """Write the pairs that one band proposes."""
    name = _band(band)
    encoded = proposed_pairs(column(tables(work.path("sketches"), [name]), name, np.uint64)[kept])
    count = max(int(kept.sum()), 1)
    pairs = pa.table({"left": encoded // count, "right": encoded % count})
    storage.write_tables(work.path("proposed", block_name(band)), [pairs])
    return len(encoded)


def _verify(work: Work, kept: np.ndarray, number: int) -> int:
    """Write the pairs that are alike, of the proposed ones whose lower number is in a range."""
    rows, left = np.flatnonzero(kept), pc.field("left")
    inside = (left >= number * RANGE) & (left < (number + 1) * RANGE)
    proposed = storage.read_table(work.path("proposed"), where=inside)
    encoded = np.unique(proposed["left"].to_numpy() * len(rows) + proposed["right"].to_numpy())
    lower, higher = encoded // len(rows), encoded % len(rows)
    shingles: dict[int, np.ndarray] = {}
    needed = np.unique(np.concatenate([lower, higher]))
    for block, name in enumerate(blocks(work.path("sketches"))):
        begin, end = np.searchsorted(rows[needed], [block * work.block, (block + 1) * work.block])
        if begin < end:
            block_shingles = storage.read_table(work.path("sketches", name), ["shingles"])["shingles"]
            found = block_shingles.take(pa.array(rows[needed[begin:end]] - block * work.block))
            shingles |= zip(needed[begin:end].tolist(), (one.values.to_numpy() for one in found), strict=True)
    pairs = Pairs.of(verified(shingles, shingles, lower, higher, work.near.cluster_threshold))
    storage.write_tables(work.path("pairs", block_name(number)), [pa.table(vars(pairs))])
    return len(pairs.left)


def column(found: Iterable[pa.Table], name: str, kind: type) -> np.ndarray:
    """One column of several tables, one after the other."""
    parts = [table[name].to_numpy() for table in found]
    return np.concatenate(parts).astype(kind, copy=False) if parts else np.empty(0, kind)


def _band(number: int) -> str:
    return f"band_{number:03d}"
