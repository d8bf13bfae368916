"""The part `examples` as Ray tasks: what one worker makes of a few rows, several make of partitions."""

import pytest

from presafe import storage
from presafe.align.examples.choose import SCRATCH, write_examples
from presafe.config import Config
from presafe.errors import UserError
from presafe.records import Example
from run_directory import config, finish_earlier_stages, save_model

SETTINGS = {"signal_batch_size": 2, "max_refuse_examples": 7, "micro_batch_tokens": 300}


@pytest.fixture(scope="module")
def settings(tmp_path_factory, local_ray) -> Config:  # noqa: ARG001
    root = tmp_path_factory.mktemp("examples")
    save_model(root)
    made = config(root, **SETTINGS)
    finish_earlier_stages(made)
    return made


def test_tasks_over_partitions_write_what_one_worker_writes(settings, tmp_path, monkeypatch):
    one = write_examples(settings, str(tmp_path / "one"), None)
    monkeypatch.setattr("presafe.align.examples.partitions.ROWS", 20)
    assert write_examples(settings, str(tmp_path / "many"), None) == one
    assert one["refuse_examples"] == 7
    for name in ("examples.parquet", "validation.parquet"):
        found, expected = (storage.read_rows(f"{tmp_path}/{way}/{name}", Example) for way in ("many", "one"))
        assert found == expected
        assert len(found) > 10
    assert not (tmp_path / "many" / SCRATCH).exists()


def test_what_a_task_lacks_is_one_sentence(settings, tmp_path):
    short = settings.model_copy(update={"align": settings.align.model_copy(update={"micro_batch_tokens": 25})})
    with pytest.raises(UserError, match=r"^found no Path A demonstration"):
        write_examples(short, str(tmp_path), None)
