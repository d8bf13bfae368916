"""Stage `prompts`: `prompts.parquet` with every training and evaluation prompt, `quarantine/` with the bad rows."""

import random
from collections import Counter
from functools import partial

from presafe import storage
from presafe.config import Config, Suite
from presafe.errors import user_error
from presafe.prompts.load import BadRow, RawPrompt, load_source
from presafe.prompts.normalise import dedupe_key
from presafe.records import Prompt, Split, prompt_id
from presafe.stages import Rows, run_stage


def run_prompts(config: Config, *, force: bool = False) -> None:
    """Run the stage; its output is one Parquet file of Prompt rows."""
    settings = config.stage_settings("prompts")
    run_stage(config.run_directory, "prompts", settings, partial(_prompts, config), force=force)


def _prompts(config: Config, folder: str) -> Rows:
    settings, seed = config.prompts, config.run.seed
    bad: list[BadRow] = []
    suites: list[Prompt] = []
    for suite in settings.suites:
        loaded = load_source(suite, seed, settings.max_quarantined_share)
        bad += loaded.bad
        suites += _suite(suite, loaded.prompts)
    held_out = {dedupe_key(prompt.text) for prompt in suites}
    unique: dict[str, tuple[str, RawPrompt]] = {}
    counts = Counter[str]()
    for source in settings.sources:
        loaded = load_source(source, seed, settings.max_quarantined_share)
        bad += loaded.bad
        for raw in loaded.prompts:
            key = dedupe_key(raw.text)
            if key in held_out:
                counts["contaminated"] += 1
            elif key in unique:
                counts["duplicates"] += 1
            else:
                unique[key] = (source.name, raw)
    training = _split(list(unique.values()), settings.classifier_prompts, settings.validation_prompts, seed)
    if bad:
        storage.write_rows(storage.join(folder, "quarantine", "rows.parquet"), bad, BadRow)
    storage.write_rows(storage.join(folder, "prompts.parquet"), training + suites, Prompt)
    splits = Counter[str](prompt.split for prompt in training)
    return {
        **splits,
        "evaluate": len(suites),
        "duplicates": counts["duplicates"],
        "contaminated": counts["contaminated"],
        "quarantined": len(bad),
    }


def _suite(suite: Suite, prompts: list[RawPrompt]) -> list[Prompt]:
    kinds = {raw.kind for raw in prompts}
    if len(kinds) != 1:
        raise user_error(
            found=f"suite {suite.name!r} with prompts of kinds {', '.join(sorted(kinds))}",
            needed="one kind, which decides the suite's metric",
            change="split it into one suite a kind",
        )
    unique = {dedupe_key(raw.text): raw for raw in prompts}
    return [_record(suite.name, raw, "evaluate") for raw in unique.values()]


def _split(rows: list[tuple[str, RawPrompt]], classifier: int, validation: int, seed: int) -> list[Prompt]:
    if len(rows) <= classifier + validation:
        raise user_error(
            found=f"{len(rows)} training prompts after dedupe and decontamination",
            needed=f"more than {classifier} for the classifier and {validation} for validation",
            change="add sources, or lower prompts.classifier_prompts or prompts.validation_prompts",
        )
    rows = sorted(rows, key=lambda row: prompt_id(row[1].text))
    random.Random(seed).shuffle(rows)
    sizes: dict[Split, int] = {"classifier": classifier, "validation": validation}
    sizes["align"] = len(rows) - classifier - validation
    splits = [split for split, size in sizes.items() for _ in range(size)]
    return [_record(source, raw, split) for (source, raw), split in zip(rows, splits, strict=True)]


def _record(source: str, raw: RawPrompt, split: Split) -> Prompt:
    own = prompt_id(raw.text)
    return Prompt(own, raw.text, raw.kind, source, raw.category, raw.reference, split, cluster=own, wrapper=None)
