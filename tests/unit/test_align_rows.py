"""A rank's examples: the same rows and numbers from a mapped file as from lists, and the batches that lists gave."""

import heapq
import math

import numpy as np
import pyarrow as pa
import pytest

from presafe import storage
from presafe.align.module.collate import Collator
from presafe.align.train.loss import step_counts
from presafe.align.train.plan import batch_plan
from presafe.align.train.rows import ExampleRows, copy_rows, mapped_rows
from presafe.records import Example
from support import small_align, uneven_examples

COLLATOR = Collator(pad_id=0, block=(5, 6, 7, 8), shared=1)
SEED = 3


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    found = sorted(uneven_examples(300), key=lambda example: not example.completion)
    return [*found[:9], Example("none", [3, 4], [5], "think", None, 0.5), *found[9:]]


@pytest.fixture(scope="module")
def mapped(examples, tmp_path_factory) -> ExampleRows:
    root = tmp_path_factory.mktemp("rows")
    storage.write_rows(str(root / "examples.parquet"), examples, Example, chunk=64)
    copy_rows(str(root / "examples.parquet"), str(root / "copy.arrow"))
    return mapped_rows(str(root / "copy.arrow"))


def test_rows_are_the_examples_and_numbers_are_theirs(examples, mapped):
    for rows in (mapped, ExampleRows.of(examples)):
        assert len(rows) == len(examples)
        assert [rows[k] for k in range(len(rows))] == examples
        assert rows.prompt_tokens.tolist() == [len(e.prompt) for e in examples]
        assert rows.completion_tokens.tolist() == [len(e.completion) for e in examples]
        assert rows.signalled.tolist() == [e.refuse_probability is not None for e in examples]
        assert rows.weights.tolist() == [e.weight for e in examples]
        assert rows.prompt_tokens.dtype == rows.completion_tokens.dtype == np.int32


def test_a_mapped_file_takes_next_to_no_memory(mapped):
    before = pa.total_allocated_bytes()
    for k in range(len(mapped)):
        assert mapped[k].prompt
    assert pa.total_allocated_bytes() - before < 10_000
    assert before < 100_000


def batches_of_lists(examples: list[Example], align, step: int, world: int) -> list[list[list[int]]]:
    """The plan over lists, with one permutation an epoch and no weights."""
    lengths = [COLLATOR.length(example) for example in examples]
    demonstrations = sum(bool(example.completion) for example in examples)
    drawn, offset = [], 0
    sizes = (demonstrations, align.batch_size), (len(examples) - demonstrations, align.signal_batch_size)
    for number, (size, batch) in enumerate(sizes):
        first, last = step * batch, (step + 1) * batch
        for epoch in range(first // size, math.ceil(last / size)):
            order = np.random.default_rng((SEED, number, epoch)).permutation(size)
            drawn += [offset + i for i in order[max(first - epoch * size, 0) : last - epoch * size].tolist()]
        offset += size
    chosen = sorted(drawn, key=lambda i: (-lengths[i], i))
    rounds = max(1, math.ceil(sum(lengths[i] for i in chosen) / (align.micro_batch_tokens * world)))
    while True:
        bins = [(0, []) for _ in range(rounds * world)]
        emptiest = [(0, k) for k in range(rounds * world)]
        for i in chosen:
            tokens, k = heapq.heappop(emptiest)
            bins[k] = (tokens + lengths[i], [*bins[k][1], i])
            heapq.heappush(emptiest, (bins[k][0], k))
        if max(tokens for tokens, _ in bins) <= align.micro_batch_tokens:
            break
        rounds += 1
    bins.sort(key=lambda item: -item[0])
    return [[bins[r * world + rank][1] for r in range(rounds)] for rank in range(world)]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_without_weights_the_batches_are_those_of_lists(mapped, examples, world):
    plain = [Example(e.prompt_id, e.prompt, e.completion, e.path, e.refuse_probability) for e in examples]
    align = small_align(batch_size=24, signal_batch_size=7, micro_batch_tokens=200)
    plan = batch_plan(ExampleRows.of(plain), align, SEED, COLLATOR)
    for step in (0, 1, 8, 9, 40):
        assert plan.microbatches(step, world) == batches_of_lists(plain, align, step, world)
    weighted = batch_plan(mapped, align, SEED, COLLATOR)
    assert any(weighted.sequences(step) != plan.sequences(step) for step in range(10))


def test_counts_of_a_step_are_those_of_its_examples(mapped, examples):
    chosen = [0, 9, 9, 250, 299]
    counts = step_counts(mapped, chosen)
    assert counts.target_tokens == sum(len(examples[i].completion) for i in chosen)
    assert counts.signals == sum(examples[i].refuse_probability is not None for i in chosen) == 3
    assert counts.without_completion == sum(not examples[i].completion for i in chosen) == 2
