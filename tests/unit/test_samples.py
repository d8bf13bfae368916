"""Which samples the report's page shows, and how much of their texts."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from presafe import storage
from presafe.evaluate import samples
from presafe.evaluate.samples import Text, read_samples
from presafe.records import EvalRecord, Prompt
from recorded_run import records_of, suite_of

PROMPTS = [*suite_of("plain", "harmful", 60), *suite_of("lookalikes", "benign", 60)]
COUNTS = {("plain", "base"): 55, ("plain", "aligned"): 1, ("lookalikes", "base"): 0, ("lookalikes", "aligned"): 2}
RECORDS = [*records_of(PROMPTS, COUNTS)]


def shown(
    folder: Path,
    records: Sequence[EvalRecord] = RECORDS,
    prompts: Sequence[Prompt] = PROMPTS,
    a_cell: int = 8,
    overlapping: Collection[tuple[str, str]] = (),
    chunk: int = storage.CHUNK,
) -> dict[str, Any]:
    file = str(folder / "records.parquet")
    storage.write_rows(file, records, EvalRecord, chunk=chunk)
    return read_samples(file, prompts, a_cell, overlapping)


def column(found: dict[str, Any], name: str) -> list[Any]:
    values: list[Any] = found["samples"][name]
    return values


def texts(found: dict[str, Any], name: str) -> list[Any]:
    return [found["texts"][place] for place in column(found, name)]


def test_a_cell_shows_at_most_so_many_and_all_of_a_small_one(tmp_path):
    by_cell = Counter(zip(*(column(shown(tmp_path), name) for name in ("suite", "arm")), strict=True))
    assert len(by_cell) == 16
    assert set(by_cell.values()) == {8}
    every = shown(tmp_path, a_cell=1000)
    assert len(column(every, "suite")) == len(RECORDS)


def test_a_cells_verdicts_take_turns(tmp_path):
    found = shown(tmp_path)
    verdicts = Counter(zip(*(column(found, name) for name in ("suite", "arm", "verdict")), strict=True))
    assert verdicts["plain", "base, CoT on", "comply"] == 4
    assert verdicts["plain", "base, CoT on", "refuse"] == 4
    assert verdicts["plain", "aligned, CoT on", "comply"] == 1
    assert verdicts["plain", "aligned, CoT on", "refuse"] == 7


def test_the_same_records_show_the_same_samples_whatever_their_order_and_their_batches(tmp_path, monkeypatch):
    first = shown(tmp_path)
    monkeypatch.setattr(storage, "CHUNK", 50)
    mixed = [RECORDS[k] for k in np.random.default_rng(0).permutation(len(RECORDS))]
    again = shown(tmp_path, mixed, chunk=37)
    for name in first["samples"]:
        if name in ("prompt", "reasoning", "answer"):
            assert texts(again, name) == texts(first, name)
        else:
            assert column(again, name) == column(first, name)


def test_arms_show_the_same_prompts_where_their_verdicts_are_the_same(tmp_path):
    found = shown(tmp_path)
    rows = zip(*(column(found, name) for name in ("suite", "arm", "prompt_id")), strict=True)
    prompts = {arm: set[str]() for arm in ("base, CoT off", "aligned, CoT off")}
    for suite, arm, prompt_id in rows:
        if suite == "lookalikes" and arm in prompts:
            prompts[arm].add(prompt_id)
    assert len(prompts["base, CoT off"]) == 8
    assert prompts["base, CoT off"] == prompts["aligned, CoT off"]


def test_a_sample_has_its_own_texts_and_what_was_found(tmp_path):
    found = shown(tmp_path, a_cell=1000, prompts=[replace(p, category="c", reference="5") for p in PROMPTS])
    for prompt_id, arm, prompt, answer in zip(
        column(found, "prompt_id"), column(found, "arm"), texts(found, "prompt"), texts(found, "answer"), strict=True
    ):
        assert prompt == f"query {prompt_id}"
        assert answer == f"answer of {arm.split(',')[0]} to {prompt_id}"
    assert set(column(found, "path")) == {"think", "refuse"}
    assert set(column(found, "head_probability")) == {0.1, 0.9}
    assert set(column(found, "category")) == {"c"}
    assert set(column(found, "reference")) == {"5"}
    assert found["kinds"] == {"plain": "harmful", "lookalikes": "benign"}
    assert len(found["texts"]) == len(set(found["texts"])), "each once"


def test_a_conversation_is_shown_with_its_turns(tmp_path):
    turns = [replace(p, earlier=[{"role": "system", "content": "be brief"}]) for p in PROMPTS]
    assert texts(shown(tmp_path, prompts=turns), "prompt")[0].startswith("system: be brief\n\nuser: query ")


def test_a_missing_probability_is_none(tmp_path):
    failed = [replace(record, head_probability=float("nan")) for record in RECORDS]
    assert set(column(shown(tmp_path, failed), "head_probability")) == {None}


def test_prompts_that_are_like_one_that_was_trained_on_are_not_shown(tmp_path):
    left_out = {("plain", f"plain-{k}") for k in range(59)}
    found = shown(tmp_path, overlapping=left_out)
    rows = zip(column(found, "suite"), column(found, "prompt_id"), strict=True)
    assert {prompt_id for suite, prompt_id in rows if suite == "plain"} == {"plain-59"}


def test_of_many_cells_each_has_fewer_but_one(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "MOST", 50)
    assert len(column(shown(tmp_path), "suite")) == 16 * 3
    monkeypatch.setattr(samples, "MOST", 5)
    assert len(column(shown(tmp_path), "suite")) == 16


def test_without_records_there_are_no_samples(tmp_path):
    assert shown(tmp_path, []) == {"kinds": {}, "texts": [], "samples": {}}


@pytest.mark.parametrize("limit", [0, 1, 7, 9, 30])
def test_a_long_text_is_cut_in_its_middle_and_says_by_how_much(limit):
    text = "the beginning, the middle, and the end"
    cut = Text(text).within(limit)
    assert len(cut.beginning) + len(cut.end) == limit
    assert cut.left_out == len(text) - limit
    assert text.startswith(cut.beginning)
    assert text.endswith(cut.end)
    assert Text(text).within(33).within(limit) == cut
    assert Text(text).within(len(text)) == Text(text)


def test_all_texts_have_room_together_and_the_short_ones_stay_whole(tmp_path, monkeypatch):
    long = [replace(record, reasoning="so " * 2000) if record.cot == "on" else record for record in RECORDS]
    monkeypatch.setattr(samples, "LONGEST", 3000)
    (cut,) = {tuple(text) for text in texts(shown(tmp_path, long), "reasoning") if isinstance(text, list | tuple)}
    assert len(cut[0]) + len(cut[2]) == 3000
    assert cut[1] == 6000 - 3000
    monkeypatch.setattr(samples, "IN_ALL", 3000)
    found = shown(tmp_path, long)
    lengths = [len(text) if isinstance(text, str) else len(text[0]) + len(text[2]) for text in found["texts"]]
    assert 2990 < sum(lengths) <= 3000
    assert all(isinstance(text, str) for text in texts(found, "answer"))
