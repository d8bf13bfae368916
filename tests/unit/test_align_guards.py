"""What watches over a training rank: room for its checkpoints, and the watchdog."""

import os
import shutil
import time

from presafe.align.resume.checkpoint import COPY, REGISTER, repair
from presafe.align.resume.room import expected_bytes, lack
from presafe.align.train.watchdog import Watchdog
from support import random_qwen2


def test_a_storage_that_cannot_be_written_is_told_by_its_reason(tmp_path):
    (tmp_path / "file").write_text("in the way")
    told = str(lack(str(tmp_path / "file/checkpoints"), 0))
    assert "file/checkpoints, which cannot be written (" in told
    assert "needed a writable storage" in told


def test_a_disk_with_too_little_room_is_told_by_what_is_there_and_what_it_takes(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert lack(str(tmp_path), free // 2) is None
    told = str(lack(str(tmp_path), free + 10**12))
    assert f"free in {tmp_path}" in told
    assert f"needed {(free + 10**12) / 1e9:.1f}"[:-3] in told
    assert list(tmp_path.iterdir()) == [], "the probe is removed"


def test_a_checkpoint_is_expected_to_hold_16_bytes_of_each_parameter_and_a_little_more():
    model = random_qwen2(100)
    assert expected_bytes(model.parameters()) == 16 * model.num_parameters() + 2**20


def watched(signs: int, silence: float) -> int:
    """Exit code of a process that gives signs of life every quarter second, then none."""
    if not (child := os.fork()):
        with Watchdog(1.0) as watchdog:
            for _ in range(signs):
                time.sleep(0.25)
                watchdog.alive()
            time.sleep(silence)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_watchdog_ends_a_process_without_signs_of_life_and_no_other():
    assert watched(signs=8, silence=0.0) == 0
    assert watched(signs=2, silence=60.0) == 1


def test_a_list_of_checkpoints_that_was_cut_off_while_written_is_the_one_before_again(tmp_path):
    register, copy = tmp_path / REGISTER, tmp_path / COPY
    repair(str(tmp_path))
    assert not register.exists()
    register.write_text('{"checkpoint_results": [1, 2]}')
    copy.write_text('{"checkpoint_results": [1]}')
    repair(str(tmp_path))
    assert register.read_text() == '{"checkpoint_results": [1, 2]}'
    register.write_text('{"checkpoint_results": [1, 2')
    repair(str(tmp_path))
    assert register.read_text() == copy.read_text()
    copy.unlink()
    register.write_text("")
    repair(str(tmp_path))
    assert not register.exists(), "killed at its first checkpoint: from the start"
