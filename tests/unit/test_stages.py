"""The stage contract: skip if done, refuse if mismatched, resume if interrupted."""

import json

import pytest

from presafe.errors import UserError
from presafe.stages import RunDirectory, run_stage


def run(root, settings, body=lambda _: {"rows": 1}, **options):
    return run_stage(RunDirectory(str(root)), "prompts", settings, body, **options)


def test_a_finished_stage_is_skipped(tmp_path):
    assert run(tmp_path, {"a": 1}) is True
    assert run(tmp_path, {"a": 1}, body=lambda _: pytest.fail("ran again")) is False
    manifest = json.loads((tmp_path / "prompts" / "manifest.json").read_text())
    assert manifest["settings"] == {"a": 1}
    assert manifest["rows"] == {"rows": 1}
    assert {"torch", "ray", "presafe"} <= manifest["versions"].keys()


def test_another_config_is_refused_with_what_differs_and_changes_nothing(tmp_path):
    run(tmp_path, {"a": 1, "b": {"c": 2}})
    before = (tmp_path / "prompts" / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=r"settings\.b\.c is 2 there and 3 here.*--force"):
        run(tmp_path, {"a": 1, "b": {"c": 3}}, body=lambda _: pytest.fail("ran"))
    assert (tmp_path / "prompts" / "manifest.json").read_bytes() == before


def test_force_throws_the_old_output_away(tmp_path):
    run(tmp_path, {"a": 1}, body=lambda folder: (open(f"{folder}/old", "w").close(), {})[1])
    assert run(tmp_path, {"a": 2}, force=True) is True
    assert not (tmp_path / "prompts" / "old").exists()


def test_an_interrupted_stage_resumes_with_its_own_config_alone(tmp_path):
    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, {"a": 1}, body=interrupted)
    with pytest.raises(UserError, match="another config"):
        run(tmp_path, {"a": 2})
    assert run(tmp_path, {"a": 1}) is True


def test_a_stage_needs_its_inputs_finished(tmp_path):
    with pytest.raises(UserError, match="no finished stage 'teacher'"):
        run(tmp_path, {"a": 1}, inputs=("teacher",))
    assert not (tmp_path / "prompts").exists()


def test_a_changed_input_is_a_mismatch(tmp_path):
    directory = RunDirectory(str(tmp_path))
    run_stage(directory, "prompts", {"a": 1}, lambda _: {})
    run_stage(directory, "teacher", {}, lambda _: {}, inputs=("prompts",))
    run_stage(directory, "prompts", {"a": 2}, lambda _: {}, force=True)
    with pytest.raises(UserError, match=r"inputs\.prompts"):
        run_stage(directory, "teacher", {}, lambda _: {}, inputs=("prompts",))


def test_a_user_error_before_the_first_row_leaves_nothing_behind(tmp_path):
    def wrong(_):
        raise UserError("found x; needed y; change z")

    with pytest.raises(UserError, match="found x"):
        run(tmp_path, {"a": 1}, body=wrong)
    assert not (tmp_path / "prompts").exists()
    assert run(tmp_path, {"a": 2}) is True
