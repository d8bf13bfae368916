"""Stage `prompts`: the suites, frozen in `RUN/suites/`; every training prompt in `prompts.parquet`; what was done in
JSON files, bad rows in `quarantine/`; and which of the suites' prompts are like one that is trained on.

Prompts go through files in `prompts/work/`, which is removed at the end, and are looked at block by block: in this
process where there is one block, on Ray Data where there are more. The driver holds numbers of all prompts and pairs of
those that are alike (presafe/prompts/alike.py), at its peak about 60 bytes a prompt (benchmarks/prompts_memory.py).
"""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from presafe import reads, storage
from presafe.config import Cluster, Config, Prompts
from presafe.conversation import messages, user_turns
from presafe.errors import user_error
from presafe.prompts.alike import Work, look_at_block, read_heads, similar_pairs
from presafe.prompts.augment import CHUNK, wrapped_copies
from presafe.prompts.blocks import blocks, for_each
from presafe.prompts.checks import BadRow
from presafe.prompts.cluster import cluster as cluster_texts
from presafe.prompts.cluster import near_duplicates, smallest_ids
from presafe.prompts.contamination import References, table
from presafe.prompts.demonstrations import WRITES as DEMONSTRATIONS
from presafe.prompts.demonstrations import gather_demonstrations
from presafe.prompts.gather import Read, decontaminate, first_of_each, gather_suites, read_sources
from presafe.prompts.report import Report
from presafe.prompts.split import split_numbered
from presafe.records import Demonstration, Prompt, Split, SuiteOverlap, schema
from presafe.stages import Part, Rows, run_stage
from presafe.suites import FOLDER, QUESTIONS, Question, compared_prompts, suite_file

BLOCK = 8192
"""Rows of a file, and of a task: some seconds of work."""
SPLITS: tuple[Split, ...] = ("classifier", "validation", "align")
SMALL_CLUSTER = 100
"""A cluster of up to so many prompts is never taken apart, however few prompts there are."""


def run_prompts(config: Config, *, redo: Collection[str] = (), force: bool = False) -> None:
    """Run the stage; its output is one Parquet file of Prompt rows for training, and one of the suites."""
    run_stage(config.run_directory, "prompts", parts(config), redo=redo, force=force)


def parts(config: Config) -> list[Part]:
    """Freeze the suites, gather what is trained on, compare it with the suites that it was not kept clear of.

    Where there are sources of ready demonstrations, gather these, too.
    """
    prompts, seed = config.prompts, {"seed": config.run.seed}
    suites = {"suites": [suite.results() for suite in config.suites], "max_characters": prompts.max_characters}
    overlapping = {"near_duplicates": prompts.near_duplicates.results(), "kept_clear_of": config.kept_clear_of}
    gathered = ("work", "prompts.parquet", "quarantine", "contamination.json", "wrappers.json", "report.json")
    overlaps = ("overlaps.parquet", "overlaps.json")
    settings = prompts.results()
    _without_weights(settings["sources"])

    def frozen_from() -> dict[str, str]:
        return reads.origins(config, "suite", config.suites)

    def gathered_from() -> dict[str, str]:
        sources = reads.origins(config, "source", prompts.sources)
        return sources | reads.origins(config, "wrapper", prompts.wrappers) | reads.kept_clear_of(config)

    def compared() -> dict[str, str]:
        ready = reads.rows(config, "prompts", "demonstrations.parquet") if config.align.demonstrations else {}
        return reads.training_prompts(config) | ready | reads.suite_prompts(config)

    return [
        Part("suites", suites | seed, frozen_from, partial(_freeze_suites, config), (FOLDER,)),
        Part("gather", {"prompts": settings} | seed, gathered_from, partial(_gather, config), _inside(gathered)),
        *([_demonstrations(config)] if config.align.demonstrations else []),
        Part("overlaps", overlapping, compared, partial(_overlaps, config), _inside(overlaps)),
    ]


def _demonstrations(config: Config) -> Part:
    sources, think = config.align.results()["demonstrations"], config.model.think
    _without_weights(sources)
    settings = {
        "demonstrations": sources,
        "max_characters": config.prompts.max_characters,
        "near_duplicates": config.prompts.near_duplicates.results(),
        "think_tags": None if think is None else [think.open, think.close],
        "seed": config.run.seed,
    }

    def read() -> dict[str, str]:
        origins = reads.origins(config, "demonstrations", config.align.demonstrations)
        return origins | reads.kept_clear_of(config) | reads.validation_prompts(config)

    return Part("demonstrations", settings, read, partial(gather_demonstrations, config), _inside(DEMONSTRATIONS))


def _without_weights(sources: list[dict[str, Any]]) -> None:
    """How often a row is drawn is the alignment's."""
    for source in sources:
        del source["weight"]


def _inside(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"prompts/{name}" for name in names)


def _freeze_suites(config: Config, _: str) -> Rows:
    report, own = Report(), config.run_directory.folder(FOLDER)
    suites, questions = gather_suites(config.suites, config.prompts, config.run.seed, report)
    if report.bad:
        storage.write_rows(storage.join(own, "quarantine", "rows.parquet"), report.bad, BadRow)
    storage.write_json(storage.join(own, "report.json"), report.suite_summary())
    if questions:
        storage.write_rows(storage.join(own, QUESTIONS), questions, Question)
    storage.write_rows(suite_file(config.run_directory), suites, Prompt)
    return {"suite_prompts": len(suites), "suite_rows_quarantined": len(report.bad)}


def _gather(config: Config, folder: str) -> Rows:
    report, settings, suites = Report(), config.prompts, config.run_directory.folder(FOLDER)
    clear_of, near = tuple(config.kept_clear_of), settings.near_duplicates
    stamp = str(storage.stamps(suite_file(config.run_directory)))
    work = Work(storage.join(folder, "work"), suites, clear_of, near, stamp, BLOCK)
    storage.remove(work.folder)
    try:
        prompts = _training(config, work, report)
        storage.write_tables(storage.join(folder, "prompts.parquet"), prompts, schema(Prompt))
    finally:
        storage.remove(work.folder)
    if report.bad:
        storage.write_rows(storage.join(folder, "quarantine", "rows.parquet"), report.bad, BadRow)
    storage.write_json(storage.join(folder, "contamination.json"), report.contamination)
    storage.write_json(storage.join(folder, "wrappers.json"), report.templates)
    storage.write_json(storage.join(folder, "report.json"), report.summary())
    return report.row_counts()


def _training(config: Config, work: Work, report: Report) -> Iterator[pa.Table]:
    """Prompts and their wrapped copies."""
    settings, seed = config.prompts, config.run.seed
    read = read_sources(settings, seed, report, work)
    names = blocks(work.path("rows"))
    cluster = config.cluster if len(names) > 1 else None
    for_each(names, partial(look_at_block, work), cluster)
    kept = decontaminate(first_of_each(read_heads(work, "key"), read, report), read, settings, report, work)
    chosen = _clustered(kept, read, settings, report, cluster, work)
    splits = _split(chosen.clusters, settings, seed)
    for name, part in _written(chosen, splits, work):
        report.add(part, report.splits)
        if settings.wrappers:
            storage.write_tables(work.path("training", name), [part])
        yield part
    for source, count in read.counts(chosen.rows).items():
        report.sources[source].kept = count
    if settings.wrappers:
        keys = read_heads(work, "key")[chosen.rows]
        del kept, chosen, splits
        for part in wrapped_copies(work, keys, settings, seed, report, cluster):
            report.add(part, report.wrapped_splits)
            yield part


@dataclass(frozen=True)
class Chosen:
    """The rows that are left, and the cluster of each: a number in the order of `names`, the clusters' smallest ids."""

    rows: np.ndarray
    clusters: np.ndarray
    names: np.ndarray


def _clustered(
    kept: np.ndarray, read: Read, settings: Prompts, report: Report, cluster: Cluster | None, work: Work
) -> Chosen:
    """The kept rows without near-duplicates, in clusters."""
    near, rows = settings.near_duplicates, np.flatnonzero(kept).astype(np.int32)
    pairs = similar_pairs(work, kept, cluster)
    dropped = np.zeros(len(rows), dtype=bool)
    if near.action == "drop":
        # Contrastive pairs and variants of a problem differ in a word: they share a cluster, and both are needed.
        need = read_heads(work, "need")
        same = need[rows[pairs.left]] == need[rows[pairs.right]]
        dropped = near_duplicates(len(rows), pairs.where(same & (pairs.similarity >= near.threshold)))
        del need
    for source, count in read.counts(rows[dropped]).items():
        report.sources[source].near_duplicates = count
    links, rows = pairs.without(dropped), rows[~dropped]
    max_size = max(SMALL_CLUSTER, int(near.max_cluster_share * len(rows)))
    found = cluster_texts(len(rows), links, near.cluster_threshold, near.threshold, max_size)
    sizes = np.bincount(found.labels, minlength=1)
    report.clusters = {
        "number": len(sizes),
        "largest": int(sizes.max()),
        "largest_before_taken_apart": found.chained,
        "threshold_in_the_largest": found.threshold,
    }
    names = smallest_ids(read_heads(work, "prompt_id")[rows], found.labels)
    order = np.argsort(names)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return Chosen(rows, rank[found.labels], names[order])


def _split(clusters: np.ndarray, settings: Prompts, seed: int) -> np.ndarray:
    """A number in SPLITS for each."""
    sizes = [settings.classifier_prompts, settings.validation_prompts]
    if len(clusters) <= sum(sizes):
        raise user_error(
            found=f"{len(clusters)} training prompts after dedupe and decontamination",
            needed=f"more than {sizes[0]} for the classifier and {sizes[1]} for validation",
            change="add sources, or lower prompts.classifier_prompts or prompts.validation_prompts",
        )
    splits = split_numbered(clusters, sizes, seed)
    if missing := {*range(len(SPLITS))} - {*np.unique(splits).tolist()}:
        raise user_error(
            found=f"near-duplicates in so few clusters that split {SPLITS[missing.pop()]} stays empty",
            needed="a cluster for each split",
            change="add sources, or raise prompts.near_duplicates.cluster_threshold",
        )
    return splits


def _written(chosen: Chosen, splits: np.ndarray, work: Work) -> Iterator[tuple[str, pa.Table]]:
    """Of each block of rows the prompts that are left."""
    wanted = schema(Prompt)
    for number, name in enumerate(blocks(work.path("rows"))):
        begin, end = np.searchsorted(chosen.rows, [number * work.block, (number + 1) * work.block])
        inside = pa.array(chosen.rows[begin:end] - number * work.block)
        own = storage.read_table(work.path("rows", name)).take(inside)
        ids = storage.read_table(work.path("heads", name), ["prompt_id"])["prompt_id"].take(inside)
        found = {
            "prompt_id": _as_text(ids.to_pylist()),
            "split": pa.array([SPLITS[k] for k in splits[begin:end]], pa.string()),
            "cluster": _as_text(chosen.names[chosen.clusters[begin:end]].tolist()),
            "wrapper": pa.nulls(end - begin, pa.string()),
        }
        yield name, pa.table([found[field] if field in found else own[field] for field in wanted.names], schema=wanted)


def _as_text(ids: list[int]) -> pa.Array:
    return pa.array([f"{one:016x}" for one in ids], pa.string())


def _overlaps(config: Config, folder: str) -> Rows:
    """Of the suites that training was not kept clear of; the others have none."""
    frozen = compared_prompts(config.run_directory.folder(FOLDER))
    suites = [prompt for prompt in frozen if prompt.source not in config.kept_clear_of]
    references, found = References(suites, config.prompts.near_duplicates), list[SuiteOverlap]()
    remaining = _trained_on(config, folder) if suites else iter(())
    while chunk := list(itertools.islice(remaining, CHUNK)):
        turns = [turns for turns, *_ in chunk]
        found += [one.named(*chunk[one.text][1:]) for one in references.overlaps(turns)]
    storage.write_rows(storage.join(folder, "overlaps.parquet"), found, SuiteOverlap)
    storage.write_json(storage.join(folder, "overlaps.json"), table(found))
    return {"overlapping_suite_prompts": len({(overlap.suite, overlap.prompt_id) for overlap in found})}


def _trained_on(config: Config, folder: str) -> Iterator[tuple[list[str], str, str]]:
    """Users' turns, source and id of each training prompt and each ready demonstration."""
    for prompt in storage.stream_rows(storage.join(folder, "prompts.parquet"), Prompt):
        yield user_turns(messages(prompt)), prompt.source, prompt.prompt_id
    if config.align.demonstrations:
        for ready in storage.stream_rows(storage.join(folder, "demonstrations.parquet"), Demonstration):
            yield user_turns(ready.messages), ready.source, ready.prompt_id
