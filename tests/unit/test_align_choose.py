"""The part `examples` over partitions: the same examples whatever their number and the order of rows."""

import random
from dataclasses import replace

import pytest

from chosen_examples import chosen_examples
from presafe import storage
from presafe.align.examples.candidates import Sources, validation_examples
from presafe.align.examples.choose import SCRATCH, Choosing, ExampleCounts, choose, validate
from presafe.align.examples.choose import _choosing as choosing_of
from presafe.align.examples.forms import Forms
from presafe.align.examples.partitions import Partitions
from presafe.engines.exported import load_tokenizer
from presafe.errors import UserError
from presafe.records import Demonstration, Example, Prompt, Signal, TeacherAnswer, Trace
from presafe.thinking import think_format
from run_directory import config, finish_earlier_stages, save_model

SETTINGS = {"signal_batch_size": 2, "max_refuse_examples": 7, "max_think_examples": 9, "micro_batch_tokens": 300}
RECORDS = {"prompts": Prompt, "answers": TeacherAnswer, "traces": Trace, "signals": Signal}
READY = [
    Demonstration(f"{k:016x}", "own", [{"role": "user", "content": "add"}], "", f"i cannot {k}", "refuse", None)
    for k in range(20)
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choose")
    save_model(folder)
    finish_earlier_stages(config(folder))
    storage.write_rows(str(folder / "ready.parquet"), READY, Demonstration)
    return folder


def choosing(root, folder, count: int, **settings: object) -> Choosing:
    made = choosing_of(config(root, **{**SETTINGS, **settings}), str(folder), str(root / "ready.parquet"))
    return replace(made, partitions=Partitions(str(folder / SCRATCH), made.seed, count), weights={"own": 0.5})


def run(choosing: Choosing) -> tuple[list[Example], ExampleCounts]:
    found = choose(choosing)
    return storage.read_rows(choosing.file("examples.parquet"), Example), found


def in_memory(root, **settings: object):
    """What the rows give in one process, read at once."""
    made = config(root, **{**SETTINGS, **settings})
    rows = {
        name: storage.read_rows(f"{root}/run/{stage}/{name}.parquet", RECORDS[name])
        for stage, name in (
            ("prompts", "prompts"),
            ("teacher", "answers"),
            ("teacher", "traces"),
            ("signals", "signals"),
        )
    }
    sources = Sources(*({row.prompt_id: row for row in rows[name]} for name in ("answers", "traces", "signals")))
    think = think_format(load_tokenizer(f"{root}/base"))
    return chosen_examples(rows["prompts"], sources, think, made.align, made.run.seed, {"own": 0.5}, READY)


@pytest.mark.parametrize("labels", ["classifier", "random"])
@pytest.mark.parametrize("count", [1, 7])
def test_partitions_give_the_examples_of_one_process(root, tmp_path, count, labels):
    examples, found = run(choosing(root, tmp_path, count, labels=labels))
    expected, left_out = in_memory(root, labels=labels)
    assert examples == expected
    assert found.skipped == left_out
    assert found.counts == {"refuse": 7 + len(READY), "think": 9, "pool": len(examples) - 16 - len(READY)}
    assert found.by_source == {"s": 16, "own": len(READY)}
    assert {e.weight for e in examples if e.prompt_id.startswith("0")} == {0.5}


def test_the_order_of_rows_changes_nothing(root, tmp_path):
    plain = choosing(root, tmp_path / "plain", 3)
    shuffled = choosing(root, tmp_path / "shuffled", 3)
    for name, (url, record, where) in plain.files.items():
        rows = storage.read_rows(url, record)
        random.Random(1).shuffle(rows)
        path = str(tmp_path / f"{name}.parquet")
        storage.write_rows(path, rows, record)
        shuffled.files[name] = (path, record, where)
    assert run(shuffled) == run(plain)


def test_what_is_asked_for_and_not_there_leaves_no_file(root, tmp_path):
    with pytest.raises(UserError, match="no Path B demonstration"):
        run(choosing(root, tmp_path, 2, micro_batch_tokens=25))
    assert not (tmp_path / "examples.parquet").exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == [SCRATCH, "validation.parquet"]


def test_validation_examples_keep_the_order_of_the_prompts(root, tmp_path):
    made = choosing(root, tmp_path, 2)
    count, skipped = validate(made)
    prompts, signals = (storage.read_rows(made.files[name][0], RECORDS[name]) for name in ("prompts", "signals"))
    think = think_format(load_tokenizer(f"{root}/base"))
    expected = [*validation_examples(prompts, {row.prompt_id: row for row in signals}, think, 300, skipped, Forms())]
    assert storage.read_rows(str(tmp_path / "validation.parquet"), Example) == expected
    assert count == len(expected) == 20
    assert not skipped


@pytest.mark.parametrize(("rows", "count"), [(0, 1), (4096, 1), (4097, 2), (10**9, 1000)])
def test_a_partition_has_a_few_thousand_prompts(rows, count):
    assert Partitions.of("folder", 0, rows).count == count
