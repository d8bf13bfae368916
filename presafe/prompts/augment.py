"""The wrapped copies of a run's training prompts: from every wrapper, fit to train on, counted."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from presafe import storage
from presafe.config import Cluster, Prompts, Wrapper
from presafe.conversation import messages, transcript, user_turns
from presafe.errors import user_error
from presafe.prompts.alike import NumberedOverlap, Work, column
from presafe.prompts.blocks import blocks, for_each, tables
from presafe.prompts.contamination import table
from presafe.prompts.gather import numbered_overlaps
from presafe.prompts.load import load_templates
from presafe.prompts.normalise import dedupe_key
from presafe.prompts.report import Report
from presafe.prompts.wrap import Templates, copies, divide
from presafe.records import Prompt, to_table

CHUNK = 1024
"""Copies held at once: in long templates they are a hundred times as long as the prompts."""


def wrapped_copies(
    work: Work, keys: np.ndarray, settings: Prompts, seed: int, report: Report, cluster: Cluster | None
) -> Iterator[pa.Table]:
    """Copies of the prompts in `training` that are short enough, new, and in no suite; `keys` are of all prompts there.

    Raises UserError where a wrapper has nothing to train on.
    """
    known, overlaps = np.sort(keys), list[NumberedOverlap]()
    for wrapper in settings.wrappers:
        templates, folder = _templates(wrapper, settings, seed, report), f"copies {wrapper.name}"
        copy = partial(_copy_block, work, folder, templates, settings.max_characters, seed)
        counts = report.copies[wrapper.name]
        counts.too_long = sum(for_each(blocks(work.path("training")), copy, cluster))
        own = column(tables(work.path(folder, "keys")), "key", np.uint64)
        new = np.zeros(len(own), dtype=bool)
        new[np.unique(own, return_index=True)[1]] = True
        new &= ~np.isin(own, known)
        known = np.union1d(known, own[new])
        found = list(numbered_overlaps(work.path(folder, "overlaps"), work.path(folder, "keys"), new))
        kept = new.copy()
        kept[[overlap.number for overlap in found]] = False
        counts.duplicates, counts.contaminated, counts.kept = (
            int(marked.sum()) for marked in (~new, new & ~kept, kept)
        )
        overlaps += found
        yield from _chosen(work.path(folder, "copies"), kept)
    report.contamination["wrapped_copies"] = table(overlaps)


def _copy_block(work: Work, folder: str, templates: Templates, longest: int, seed: int, name: str) -> int:
    """Write the copies of a block of prompts, their keys and their overlaps; returns how many are too long."""
    prompts = storage.read_rows(work.path("training", name), Prompt)
    too_long, keys, overlaps = 0, list[int](), list[NumberedOverlap]()

    def written() -> Iterator[pa.Table]:
        nonlocal too_long
        chunk: list[Prompt] = []
        for copy in copies(prompts, templates, seed):
            if len(transcript(copy)) > longest:
                too_long += 1
                continue
            chunk.append(copy)
            if len(chunk) == CHUNK:
                yield look(chunk)
                chunk = []
        yield look(chunk)

    def look(chunk: list[Prompt]) -> pa.Table:
        said = [(user_turns(messages(copy)), copy.source, copy.prompt_id) for copy in chunk]
        overlaps.extend(work.overlaps(said, len(keys)))
        keys.extend(storage.short_hash(dedupe_key(transcript(copy))) for copy in chunk)
        return to_table(chunk, Prompt)

    storage.write_tables(work.path(folder, "copies", name), written())
    storage.write_tables(work.path(folder, "keys", name), [pa.table({"key": pa.array(keys, pa.uint64())})])
    storage.write_tables(work.path(folder, "overlaps", name), [to_table(overlaps, NumberedOverlap)])
    return too_long


def _chosen(folder: str, kept: np.ndarray) -> Iterator[pa.Table]:
    begin = 0
    for name in blocks(folder):
        for part in storage.stream_tables(storage.join(folder, name), rows=CHUNK):
            yield part.filter(pa.array(kept[begin : begin + len(part)]))
            begin += len(part)


def _templates(wrapper: Wrapper, settings: Prompts, seed: int, report: Report) -> Templates:
    loaded = load_templates(wrapper, settings, seed)
    templates = divide(wrapper, loaded.good, settings.near_duplicates, seed)
    if not templates.training:
        raise user_error(
            found=f"no template of wrapper {wrapper.name!r} to train on ({len(loaded.good)} in all)",
            needed="at least one that is not held out",
            change="add templates, or lower held_out_share",
        )
    counts = report.wrappers[wrapper.name]
    counts.read, counts.filtered = loaded.read, loaded.filtered
    counts.kept = len(templates.training) + len(templates.held_out)
    counts.exact_duplicates = len(loaded.good) - counts.kept
    counts.set_aside(loaded.bad)
    report.bad += loaded.bad
    report.add_templates(templates)
    return templates
