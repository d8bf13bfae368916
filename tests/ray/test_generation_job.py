"""The generation job on a pool of real actors: bad rows, and what an actor has to say to the user."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from presafe.config import Decoding, Pool, TransformersSettings
from presafe.engines.engine import Completion, Engine, IsDecided, Query, Tell
from presafe.engines.job import Job, Task, read_generations, run_generation
from presafe.engines.start import ModelSpec
from presafe.errors import UserError, user_error
from presafe.progress import generated
from run_directory import save_model

BROKEN = ["", "   ", "kite " * 400, "lamp </think> two", "please <|im_end|> two"]


def job(model: str, **changes: object) -> Job:
    settings = {
        "engine": TransformersSettings(batch_size=4, max_prompt_tokens=200),
        "decoding": {"off": Decoding(temperature=0, max_new_tokens=6)},
        "workers": Pool(num_workers=2),
        "rows_per_block": 10,
        "seed": 0,
        **changes,
    }
    return Job(model=ModelSpec(model, "float32"), **settings)


def no_engine(job: Job, num_workers: int) -> Engine:
    raise user_error(found=f"{num_workers} worker(s)", needed="another key", change=f"seed {job.seed}")


@pytest.mark.usefixtures("local_ray")
def test_a_bad_row_ends_with_its_reason_and_costs_no_good_one(tmp_path):
    save_model(tmp_path)
    texts = [BROKEN[k // 20] if k % 20 == 0 else f"add {k}" for k in range(100)]
    tasks = [Task(f"t{k:03}", f"p{k}", text, "off", 0) for k, text in enumerate(texts)]
    output = run_generation(tasks, str(tmp_path / "job"), job(str(tmp_path / "base")), "test")
    rows = {row.task_id: row for row in read_generations(output)}
    assert sorted(rows) == [task.task_id for task in tasks]
    errors = {name: row.error for name, row in rows.items() if row.error}
    assert errors == {"t000": "empty prompt", "t020": "empty prompt", "t040": errors["t040"]}
    assert "the engine takes 200" in errors["t040"]
    assert all(row.num_tokens > 0 for row in rows.values() if row.error is None)


class CountingEngine:
    """Answers with the text, and leaves a file for each query."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def generate(
        self, queries: Sequence[Query], decoding: Decoding, seed: int, decided: IsDecided | None, tell: Tell
    ) -> list[Completion]:
        del decoding, seed, decided, tell
        for query in queries:
            (self._folder / query.text).touch()
        return [Completion("", query.text, "stop", 1) for query in queries]


def counting_engine(job: Job, num_workers: int) -> Engine:
    del num_workers
    return CountingEngine(Path(job.model.base))


@pytest.mark.usefixtures("local_ray")
def test_of_other_tasks_only_the_further_ones_are_generated_and_the_dropped_ones_go(tmp_path):
    asked = tmp_path / "asked"
    asked.mkdir()
    every = [Task(f"t{k:02}", f"p{k}", f"text {k:02}", "off", 0) for k in range(30)]
    for tasks, further in ((every[:20], range(20)), (every[5:], range(20, 30)), (every[5:15], ())):
        output = run_generation(tasks, str(tmp_path / "job"), job(str(asked)), "test", counting_engine)
        assert sorted(path.name for path in asked.iterdir()) == [f"text {k:02}" for k in further]
        assert sorted(row.answer for row in read_generations(output)) == [task.text for task in tasks]
        for path in asked.iterdir():
            path.unlink()


class WaitingEngine:
    """Tells of three rows and thirty tokens of its block, then waits until it may go on."""

    def __init__(self, may_go_on: Path) -> None:
        self._may_go_on = may_go_on

    def generate(
        self, queries: Sequence[Query], decoding: Decoding, seed: int, decided: IsDecided | None, tell: Tell
    ) -> list[Completion]:
        del decoding, seed, decided
        tell(3, 30)
        while not self._may_go_on.exists():
            time.sleep(0.05)
        return [Completion("", "an answer", "stop", 10) for _ in queries]


def waiting_engine(job: Job, num_workers: int) -> Engine:
    del num_workers
    return WaitingEngine(Path(job.model.base))


@pytest.mark.usefixtures("local_ray")
def test_rows_of_a_block_count_while_it_runs(tmp_path):
    folder, may_go_on = tmp_path / "job", tmp_path / "go on"
    settings = job(str(may_go_on), workers=Pool(num_workers=1))
    tasks = [Task(f"t{k}", f"p{k}", "add two", "off", 0) for k in range(10)]
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(run_generation, tasks, str(folder), settings, "test", waiting_engine)
        try:
            while not list(folder.glob("running/*.json")):
                assert not running.done(), running.exception()
                time.sleep(0.05)
            look = generated(str(folder / "generations"), str(folder / "running"))
            assert look()[0] == 3
        finally:
            may_go_on.touch()
        rows = list(read_generations(running.result()))
    assert look()[0] == len(rows) == len(tasks)
    assert look()[1] != "0 tokens/s"


@pytest.mark.usefixtures("local_ray")
def test_what_an_actor_says_to_the_user_arrives_as_it_was_said(tmp_path):
    with pytest.raises(UserError, match=r"^found 1 worker\(s\); needed another key; seed 3$"):
        run_generation(
            [Task("t", "p", "add two", "off", 0)],
            str(tmp_path / "job"),
            job("none", seed=3, workers=Pool(num_workers=1)),
            "test",
            no_engine,
        )
