"""The stage contract: skip what is done, refuse what was made of something else, resume what was interrupted."""

import json

import pytest

from presafe.errors import UserError
from presafe.stages import Found, Part, RunDirectory, look, run_stage


def part(settings, body=lambda _: {"rows": 1}, name="one", reads=dict, writes=("prompts/out",)):
    return Part(name, settings, reads, body, writes)


def run(root, *parts, **options):
    return run_stage(RunDirectory(str(root)), "prompts", parts, **options)


def fail(_):
    pytest.fail("ran")


def write(text):
    def body(folder):
        with open(f"{folder}/out", "w") as file:
            file.write(text)
        return {}

    return body


def test_a_finished_stage_is_skipped(tmp_path):
    assert run(tmp_path, part({"a": 1})) is True
    assert run(tmp_path, part({"a": 1}, fail)) is False
    manifest = json.loads((tmp_path / "prompts" / "manifest.json").read_text())
    assert manifest["parts"]["one"]["settings"] == {"a": 1}
    assert manifest["rows"] == {"rows": 1}
    assert {"torch", "ray", "presafe"} <= manifest["versions"].keys()


def test_other_settings_are_refused_with_what_differs_and_change_nothing(tmp_path):
    run(tmp_path, part({"a": 1, "b": {"c": [2, 3]}}))
    before = (tmp_path / "prompts" / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=r"prompts\.one.*settings\.b\.c\[1\] is 3 there and 4 here.*--redo"):
        run(tmp_path, part({"a": 1, "b": {"c": [2, 4]}}, fail))
    assert (tmp_path / "prompts" / "manifest.json").read_bytes() == before


def test_other_content_is_refused_by_its_name(tmp_path):
    run(tmp_path, part({}, reads=lambda: {"source mine": "aa"}))
    with pytest.raises(UserError, match=r"reads\.source mine is 'aa' there and 'bb' here"):
        run(tmp_path, part({}, fail, reads=lambda: {"source mine": "bb"}))


def test_redo_makes_a_part_anew_and_leaves_the_others(tmp_path):
    first, second = part({"a": 1}, write("old")), part({"b": 1}, name="two", writes=())
    run(tmp_path, first, second)
    kept = part({"b": 1}, fail, name="two", writes=())
    assert run(tmp_path, part({"a": 2}, write("new")), kept, redo=["one", "two"]) is True
    assert (tmp_path / "prompts" / "out").read_text() == "new"


def test_redo_of_one_part_is_no_leave_for_another(tmp_path):
    run(tmp_path, part({"a": 1}), part({"b": 1}, name="two"))
    with pytest.raises(UserError, match=r"prompts\.one"):
        run(tmp_path, part({"a": 2}, fail), part({"b": 2}, fail, name="two"), redo=["two"])


def test_what_a_redone_part_wrote_is_gone_before_it_runs(tmp_path):
    run(tmp_path, part({"a": 1}, write("old")))

    def body(_):
        assert not (tmp_path / "prompts" / "out").exists()
        return {}

    run(tmp_path, part({"a": 2}, body), redo=["one"])


def test_force_throws_the_old_output_away(tmp_path):
    run(tmp_path, part({"a": 1}, write("old")))
    assert run(tmp_path, part({"a": 1}), force=True) is True
    assert not (tmp_path / "prompts" / "out").exists()


def test_an_interrupted_part_resumes_with_its_own_settings_alone(tmp_path):
    def interrupted(folder):
        write("half")(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, part({"a": 1}, interrupted))
    assert look(RunDirectory(str(tmp_path)), "prompts", [part({"a": 1})]) == [Found("prompts.one", "interrupted")]
    with pytest.raises(UserError, match="made of something else"):
        run(tmp_path, part({"a": 2}))
    assert run(tmp_path, part({"a": 1}, lambda folder: (open(f"{folder}/out").close(), {})[1])) is True


def test_a_part_that_fails_with_rows_keeps_them_and_goes_on(tmp_path):
    """A ceiling, say, which is in no key: it can be raised."""

    def too_many(folder):
        write("rows")(folder)
        raise UserError("found too many; needed fewer; raise the ceiling")

    with pytest.raises(UserError, match="too many"):
        run(tmp_path, part({"a": 1}, too_many))
    assert run(tmp_path, part({"a": 1}, lambda folder: (open(f"{folder}/out").close(), {})[1])) is True


def test_a_stage_is_unfinished_while_one_of_its_parts_is(tmp_path):
    directory = RunDirectory(str(tmp_path))
    run(tmp_path, part({"a": 1}), part({"b": 1}, name="two"))

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, part({"a": 1}, fail), part({"b": 2}, interrupted, name="two"), redo=["two"])
    assert not directory.finished("prompts")
    assert run(tmp_path, part({"a": 1}, fail), part({"b": 2}, name="two")) is True
    assert directory.finished("prompts")


def test_a_stage_needs_its_inputs_finished(tmp_path):
    with pytest.raises(UserError, match="no finished stage 'teacher'"):
        run(tmp_path, part({"a": 1}), inputs=("teacher",))
    assert not (tmp_path / "prompts").exists()


def test_a_user_error_before_the_first_row_leaves_nothing_behind(tmp_path):
    def wrong(_):
        raise UserError("found x; needed y; change z")

    with pytest.raises(UserError, match="found x"):
        run(tmp_path, part({"a": 1}, wrong))
    assert not (tmp_path / "prompts").exists()
    assert run(tmp_path, part({"a": 2})) is True


def test_a_run_of_an_earlier_version_is_refused_and_left_as_it_is(tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name in ("started.json", "manifest.json", "prompts.parquet"):
        (folder / name).write_text("{}")
    with pytest.raises(UserError, match=r"earlier version.*run\.name"):
        run(tmp_path, part({}, fail))
    assert len([*folder.iterdir()]) == 3


def test_what_follows_rows_keeps_what_it_has_of_them(tmp_path):
    def following(rows, body, **settings):
        reads = lambda: {"rows": rows, "model": "m"}  # noqa: E731
        return Part("one", settings, reads, body, ("prompts/out",), follows=("rows",))

    def kept(_):
        assert (tmp_path / "prompts" / "out").read_text() == "old"
        raise KeyboardInterrupt

    run(tmp_path, following("a", write("old")))
    with pytest.raises(UserError, match=r"reads\.rows is 'a' there and 'b' here"):
        run(tmp_path, following("b", fail))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, following("b", kept), redo=["one"])
    directory = RunDirectory(str(tmp_path))
    (found,) = look(directory, "prompts", [following("b", fail)])
    assert (found.state, found.rows_stay) == ("interrupted", False)
    (found,) = look(directory, "prompts", [following("c", fail)])
    assert (found.state, found.rows_stay) == ("stale", True)
    (found,) = look(directory, "prompts", [following("c", fail, a=1)])
    assert (found.state, found.rows_stay) == ("stale", False)
    assert run(tmp_path, following("b", write("new"))) is True

    def gone(_):
        assert not (tmp_path / "prompts" / "out").exists()
        return {}

    assert run(tmp_path, following("b", gone, a=1), redo=["one"]) is True
