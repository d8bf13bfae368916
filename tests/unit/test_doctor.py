"""`presafe doctor`: each break of a node is a line that says what to do, and a sound one is none."""

from dataclasses import replace

import pytest

from presafe.cli import main
from presafe.cluster.doctor.node import NodeState, node_state
from presafe.cluster.doctor.rules import findings

SOUND = NodeState(
    name="node",
    versions={"python": "3.11.9", "ray": "2.60.0", "torch": "2.9.0", "presafe": "1"},
    gpus=8,
    gpus_declared=8,
    free=10**12,
    shared_memory=10**11,
    open_files=65536,
    store="s3://bucket/runs",
    storage_error=None,
)


def wrong(node: NodeState, drift: float = 0.0) -> list[str]:
    return [f"{line.found}; {line.change}" for line in findings(SOUND, [node], [drift]) if line.change]


def test_a_sound_node_has_nothing_to_do():
    assert wrong(SOUND) == []
    assert len(list(findings(SOUND, [SOUND, SOUND], [0.0, 0.1]))) == 14


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (
            {"versions": SOUND.versions | {"ray": "2.59.0"}},
            "ray 2.59.0, where the driver has 2.60.0; give all nodes one",
        ),
        ({"versions": SOUND.versions | {"torch": None}}, "torch (none), where the driver has 2.9.0"),
        ({"gpus": 7}, "torch sees 7 of the 8 GPU(s) that Ray counts on; mend its driver"),
        ({"free": 10**9}, "1 GB of disk for temporary files, of 20 needed"),
        ({"shared_memory": 64 * 2**20}, "0.1 GB of shared memory, of 1 needed; raise --shm-size"),
        ({"open_files": 1024}, "1,024 open files a process, of 8,192 needed; raise the hard limit"),
        ({"storage_error": "PermissionError: no"}, "s3://bucket/runs fails (PermissionError: no); give it credentials"),
    ],
)
def test_each_break_is_one_line(broken, told):
    [line] = wrong(replace(SOUND, **broken))
    assert told in line


@pytest.mark.parametrize("drift", [-60.0, 60.0])
def test_a_clock_that_is_wrong_is_told(drift):
    [line] = wrong(SOUND, drift)
    assert f"clock {drift:+.1f} s of the driver's; set the clocks" in line


def test_a_storage_that_takes_no_write_is_told_and_one_that_does_is_left_as_it_was(tmp_path):
    assert node_state(str(tmp_path), 0).storage_error is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert "cannot be written" in str(node_state(str(tmp_path / "file"), 0).storage_error)


def test_a_disk_that_is_not_the_drivers_is_told(tmp_path):
    """What another machine wrote must be seen: each node's own disk takes every file."""
    (tmp_path / "seen").touch()
    assert node_state(str(tmp_path), 0, str(tmp_path / "seen")).storage_error is None
    assert "another disk" in str(node_state(str(tmp_path), 0, str(tmp_path / "unseen")).storage_error)


def test_the_verb_looks_at_this_machine_and_its_exit_code_says_how_it_is(capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith(("ok ", "WRONG ")) for line in lines)
    assert ended.value.code == int(any(line.startswith("WRONG") for line in lines))
