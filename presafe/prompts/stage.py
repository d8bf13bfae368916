"""Stage `prompts`: the suites, frozen in `RUN/suites/`; every training prompt in `prompts.parquet`; what was done in
JSON files, bad rows in `quarantine/`; and which of the suites' prompts are like one that is trained on.

The driver holds all prompts in memory; measured: 2 kB for a prompt of 20 words and 15 kB for its copy in a long
jailbreak template, at 0.16 and 0.8 ms of one core. Both grow linearly (presafe/prompts/near.py).
"""

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any

from presafe import reads, storage
from presafe.config import Config, Prompts
from presafe.errors import user_error
from presafe.prompts.augment import wrapped_copies
from presafe.prompts.checks import BadRow
from presafe.prompts.cluster import cluster, cluster_names, near_duplicates
from presafe.prompts.contamination import find_overlaps, suite_overlaps, table
from presafe.prompts.conversation import user_turns
from presafe.prompts.demonstrations import WRITES as DEMONSTRATIONS
from presafe.prompts.demonstrations import gather_demonstrations
from presafe.prompts.gather import decontaminate, gather_sources, gather_suites
from presafe.prompts.near import pairs_within, sketch
from presafe.prompts.report import Report
from presafe.prompts.split import split_clusters
from presafe.records import Demonstration, Prompt, Split, SuiteOverlap
from presafe.stages import Part, Rows, run_stage
from presafe.suites import FOLDER, suite_file, suite_prompts

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
    gathered = ("prompts.parquet", "quarantine", "contamination.json", "wrappers.json", "report.json")
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
    suites = gather_suites(config.suites, config.prompts, config.run.seed, report)
    if report.bad:
        storage.write_rows(storage.join(own, "quarantine", "rows.parquet"), report.bad, BadRow)
    storage.write_json(storage.join(own, "report.json"), report.suite_summary())
    storage.write_rows(suite_file(config.run_directory), suites, Prompt)
    return {"suite_prompts": len(suites), "suite_rows_quarantined": len(report.bad)}


def _gather(config: Config, folder: str) -> Rows:
    report, settings, seed = Report(), config.prompts, config.run.seed
    suites = [prompt for prompt in suite_prompts(config.run_directory) if prompt.source in config.kept_clear_of]
    found = decontaminate(gather_sources(settings, seed, report), suites, settings, report)
    training = _split(_clustered(found, settings, report), settings, seed)
    training += wrapped_copies(training, suites, settings, seed, report)
    if report.bad:
        storage.write_rows(storage.join(folder, "quarantine", "rows.parquet"), report.bad, BadRow)
    storage.write_json(storage.join(folder, "contamination.json"), report.contamination)
    storage.write_json(storage.join(folder, "wrappers.json"), report.templates)
    storage.write_json(storage.join(folder, "report.json"), report.summary(training))
    storage.write_rows(storage.join(folder, "prompts.parquet"), training, Prompt)
    return report.row_counts(training)


def _overlaps(config: Config, folder: str) -> Rows:
    """Of the suites that training was not kept clear of; the others have none."""
    suites = [prompt for prompt in suite_prompts(config.run_directory) if prompt.source not in config.kept_clear_of]
    training = _trained_on(config, folder) if suites else []
    found = find_overlaps(suites, [prompt.text for prompt in training], config.prompts.near_duplicates)
    overlaps = suite_overlaps(found, training)
    storage.write_rows(storage.join(folder, "overlaps.parquet"), overlaps, SuiteOverlap)
    storage.write_json(storage.join(folder, "overlaps.json"), table(found, training))
    return {"overlapping_suite_prompts": len({(overlap.suite, overlap.prompt_id) for overlap in overlaps})}


def _trained_on(config: Config, folder: str) -> list[Prompt]:
    """The training prompts, and the users' turns of ready demonstrations."""
    prompts = storage.read_rows(storage.join(folder, "prompts.parquet"), Prompt)
    if not config.align.demonstrations:
        return prompts
    ready = storage.stream_rows(storage.join(folder, "demonstrations.parquet"), Demonstration)
    return prompts + [
        Prompt(row.prompt_id, text, "benign", row.source, None, None, "align", row.prompt_id, None)
        for row in ready
        for text in user_turns(row)
    ]


def _clustered(prompts: list[Prompt], settings: Prompts, report: Report) -> list[Prompt]:
    """The prompts without near-duplicates, each with its cluster."""
    near = settings.near_duplicates
    texts = sketch([prompt.text for prompt in prompts], near.shingle_words, near.permutations)
    pairs = pairs_within(texts, near.cluster_threshold)

    def same(i: int, j: int) -> bool:
        # Contrastive pairs and variants of a problem differ in a word: they share a cluster, and both are needed.
        return (prompts[i].kind, prompts[i].reference) == (prompts[j].kind, prompts[j].reference)

    dropped = set[int]()
    if near.action == "drop":
        dropped = near_duplicates((pair for pair in pairs if pair[2] >= near.threshold), same)
    for number in dropped:
        report.sources[prompts[number].source].near_duplicates += 1
    kept = [prompt for number, prompt in enumerate(prompts) if number not in dropped]
    rank = {number: k for k, number in enumerate(n for n in range(len(prompts)) if n not in dropped)}
    links = [(rank[i], rank[j], similarity) for i, j, similarity in pairs if i in rank and j in rank]
    max_size = max(SMALL_CLUSTER, int(near.max_cluster_share * len(kept)))
    found = cluster(len(kept), links, near.cluster_threshold, near.threshold, max_size)
    report.chained = {"largest_before_taken_apart": found.chained, "threshold_in_the_largest": found.threshold}
    names = cluster_names([prompt.prompt_id for prompt in kept], found.labels)
    return [replace(prompt, cluster=name) for prompt, name in zip(kept, names, strict=True)]


def _split(prompts: list[Prompt], settings: Prompts, seed: int) -> list[Prompt]:
    sizes: dict[Split, int] = {"classifier": settings.classifier_prompts, "validation": settings.validation_prompts}
    if len(prompts) <= sum(sizes.values()):
        raise user_error(
            found=f"{len(prompts)} training prompts after dedupe and decontamination",
            needed=f"more than {sizes['classifier']} for the classifier and {sizes['validation']} for validation",
            change="add sources, or lower prompts.classifier_prompts or prompts.validation_prompts",
        )
    splits = split_clusters([prompt.cluster for prompt in prompts], sizes, "align", seed)
    if missing := {*sizes, "align"} - set(splits):
        raise user_error(
            found=f"near-duplicates in so few clusters that split {missing.pop()} stays empty",
            needed="a cluster for each split",
            change="add sources, or raise prompts.near_duplicates.cluster_threshold",
        )
    return [replace(prompt, split=split) for prompt, split in zip(prompts, splits, strict=True)]
