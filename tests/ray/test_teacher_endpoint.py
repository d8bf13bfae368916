"""Stage `teacher` on an endpoint that fails some rows: they count, nothing is lost, a re-run tries them alone."""

from pathlib import Path

import pytest
from finished_stage import finish
from scripted_process import Endpoint, started

from presafe import storage
from presafe.config import Config
from presafe.errors import UserError
from presafe.records import Prompt, TeacherAnswer
from presafe.teacher import run_teacher
from run_directory import save_model
from scripted_endpoint import REFUSAL

GOOD = [f"ok {k}" for k in range(4)]
FAILING = [f"400 ok {k}" for k in range(3)]
"""Refused at first, answered when they are asked again."""
FILTERED = ["filter 1", "filter 2"]


def config(root: Path, endpoint: Endpoint) -> Config:
    settings = Config.model_validate(
        {
            "run": {"name": "run", "storage": str(root)},
            "model": {"path": str(root / "base"), "dtype": "float32"},
            "suites": [{"name": "e", "function": "m:f"}],
            "prompts": {"sources": [{"name": "s", "function": "m:f"}]},
            "teacher": {
                "workers": {"num_workers": 1},
                "engine": {"kind": "http", "base_url": endpoint.url, "model": "m", "api_key_env": "NO_SUCH_KEY"},
                "max_traces": 0,
                "cot_on_decisions": 0,
                "rows_per_block": 4,
            },
        }
    )
    texts = GOOD + FAILING + FILTERED
    rows = [Prompt(f"p{k}", text, "harmful", "s", None, None, "align", f"p{k}", None) for k, text in enumerate(texts)]
    write = lambda folder: {"n": storage.write_rows(f"{folder}/prompts.parquet", rows, Prompt)}  # noqa: E731
    finish(settings.run_directory, "prompts", write)
    return settings


@pytest.mark.usefixtures("local_ray")
def test_failed_rows_fail_the_stage_and_a_rerun_asks_for_them_alone(tmp_path):
    save_model(tmp_path)
    with started() as (endpoint, _):
        settings = config(tmp_path, endpoint)
        folder = settings.run_directory.folder("teacher")
        with pytest.raises(UserError, match=r"3 failed \(first: BadRequestError: this is 400\) .* of 9 answers"):
            run_teacher(settings)
        assert storage.count_rows(f"{folder}/answers/generations") == 9
        assert storage.read_table(f"{folder}/quarantine").num_rows == 3
        run_teacher(settings)
        asked = [request["body"]["messages"][0]["content"] for request in endpoint.requests()]
    assert sorted(asked) == sorted(GOOD + FILTERED + 2 * FAILING)
    counts = storage.read_json(f"{folder}/manifest.json")["rows"]
    assert (counts["answers"], counts["quarantined"], counts["refused_by_provider"]) == (9, 0, 2)
    assert not storage.exists(f"{folder}/quarantine")
    found = {row.prompt_id: row for row in storage.read_rows(f"{folder}/answers.parquet", TeacherAnswer)}
    assert {found[f"p{k}"].answer for k in range(7)} == {REFUSAL}
    filtered = [found["p7"], found["p8"]]
    assert {(row.decision, row.judge, row.finish_reason, row.answer) for row in filtered} == {
        ("refuse", "provider", "filtered", "")
    }
