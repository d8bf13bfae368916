"""The generation job on a pool of real actors: bad rows, and what an actor has to say to the user."""

import pytest

from presafe.config import Decoding, Pool, TransformersSettings
from presafe.engines.engine import Engine
from presafe.engines.job import Job, Task, read_generations, run_generation
from presafe.engines.start import ModelSpec
from presafe.errors import UserError, user_error
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
