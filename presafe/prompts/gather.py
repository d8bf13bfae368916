"""Gather the prompts of suites and sources, without exact duplicates, and of sources without what is contaminated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from presafe import storage
from presafe.config import Prompts, Suite
from presafe.conversation import transcript
from presafe.errors import user_error
from presafe.prompts.alike import NumberedOverlap, SourceRow, Work
from presafe.prompts.blocks import BlockWriter, blocks
from presafe.prompts.contamination import table
from presafe.prompts.load import load_source
from presafe.prompts.normalise import dedupe_key
from presafe.prompts.prompt_row import RawPrompt
from presafe.prompts.report import Report
from presafe.records import Prompt, prompt_id
from presafe.suites import Question

PARTS = 16
"""In which rows are looked through for duplicates, since sorting takes a multiple of what is sorted."""


@dataclass(frozen=True)
class Read:
    """The sources in their order, and the number of the row behind each one's last."""

    names: list[str]
    ends: np.ndarray

    def counts(self, rows: np.ndarray) -> dict[str, int]:
        """By source, how many of the numbered rows are its own."""
        by_source = np.bincount(np.searchsorted(self.ends, rows, side="right"), minlength=len(self.names))
        return dict(zip(self.names, by_source.tolist(), strict=True))


def gather_suites(
    suites: Sequence[Suite], settings: Prompts, seed: int, report: Report
) -> tuple[list[Prompt], list[Question]]:
    """The prompts of every suite, without a suite's own exact duplicates, and the questions of those that have more."""
    prompts, questions = list[Prompt](), list[Question]()
    for suite in suites:
        loaded = load_source(suite, settings, seed, attacks=True)
        unique = _unique(suite, loaded.good)
        counts = report.suites[suite.name]
        counts.read, counts.kept, counts.filtered = loaded.read, len(unique), loaded.filtered
        counts.exact_duplicates = len(loaded.good) - len(unique)
        counts.set_aside(loaded.bad)
        report.bad += loaded.bad
        prompts += [_record(suite.name, raw) for raw in unique]
        questions += [
            Question(suite.name, prompt_id(raw.text, raw.earlier), raw.question) for raw in unique if raw.question
        ]
    return prompts, questions


def read_sources(settings: Prompts, seed: int, report: Report, work: Work) -> Read:
    """Write the prompts of all sources as rows in blocks."""
    writer, ends = BlockWriter(work.path("rows"), SourceRow, work.block), []
    for source in settings.sources:

        def take(raw: RawPrompt, name: str = source.name) -> None:
            writer.append(SourceRow(raw.text, raw.kind, raw.category, raw.reference, name, raw.earlier))

        loaded = load_source(source, settings, seed, attacks=False, take=take)
        counts = report.sources[source.name]
        counts.read, counts.filtered = loaded.read, loaded.filtered
        counts.set_aside(loaded.bad)
        report.bad += loaded.bad
        ends.append(len(writer))
    writer.close()
    return Read([source.name for source in settings.sources], np.array(ends))


def first_of_each(keys: np.ndarray, read: Read, report: Report) -> np.ndarray:
    """Whether a row is no exact duplicate of an earlier one: the first source keeps its own."""
    kept = np.zeros(len(keys), dtype=bool)
    for part in range(PARTS):
        rows = np.flatnonzero(keys % PARTS == part)
        kept[rows[np.unique(keys[rows], return_index=True)[1]]] = True
    for source, count in read.counts(np.flatnonzero(~kept)).items():
        report.sources[source].exact_duplicates = count
    return kept


def decontaminate(kept: np.ndarray, read: Read, settings: Prompts, report: Report, work: Work) -> np.ndarray:
    """Of the kept rows, those that are like no prompt of a suite. Raises UserError where too much of a source is."""
    overlaps = list(numbered_overlaps(work.path("overlaps"), work.path("heads"), kept))
    report.contamination["prompts"] = table(overlaps)
    dropped = np.unique(np.array([overlap.number for overlap in overlaps], dtype=np.int64))
    unique = read.counts(np.flatnonzero(kept))
    for source, count in read.counts(dropped).items():
        report.sources[source].contaminated = count
        if count > settings.max_contaminated_share * unique[source]:
            raise user_error(
                found=f"{count} of {unique[source]} prompts of source {source!r} in the evaluation suites",
                needed=f"at most a share of {settings.max_contaminated_share:g}",
                change="take the source or the suite out, or raise prompts.max_contaminated_share",
            )
    clear = kept.copy()
    clear[dropped] = False
    return clear


def numbered_overlaps(folder: str, beside: str, wanted: np.ndarray) -> Iterator[NumberedOverlap]:
    """The overlaps of wanted rows, numbered over all blocks; `beside` has a row for each row of a block."""
    begin = 0
    for name in blocks(folder):
        for overlap in storage.stream_rows(storage.join(folder, name), NumberedOverlap):
            if wanted[begin + overlap.number]:
                yield replace(overlap, number=begin + overlap.number)
        begin += storage.count_rows(storage.join(beside, name))


def _unique(suite: Suite, prompts: list[RawPrompt]) -> list[RawPrompt]:
    kinds = {raw.kind for raw in prompts}
    if len(kinds) != 1:
        raise user_error(
            found=f"suite {suite.name!r} with prompts of kinds {', '.join(sorted(kinds))}",
            needed="one kind, which decides the suite's metric",
            change="split it into one suite a kind",
        )
    return list({dedupe_key(transcript(raw)): raw for raw in prompts}.values())


def _record(suite: str, raw: RawPrompt) -> Prompt:
    own, checked = prompt_id(raw.text, raw.earlier), (raw.category, raw.reference)
    return Prompt(own, raw.text, raw.kind, suite, *checked, "evaluate", cluster=own, wrapper=None, earlier=raw.earlier)
