"""The decision log: what a line holds, how files rotate, and that no line is lost in silence."""

import json
import logging
import math
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presafe.errors import UserError
from serve.operations import audit
from serve.operations.audit import AuditLog, DecisionRecord, conversation_digest, read_hash_key

ASKED = [{"role": "user", "content": "how are you?"}]
DEADLINE_S = 20.0


def record(request_id: str = "chatcmpl-1", **changes) -> DecisionRecord:
    values = {
        "request_id": request_id,
        "choice": 0,
        "key_id": "ada",
        "model": "presafe",
        "path": "think",
        "refuse_probability": 0.25,
        "threshold": 0.5,
        "gate": "shadow",
        "gate_path": "think",
        "finish_reason": "stop",
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "reasoning_tokens": 5,
        "seconds_to_decision": 0.01,
        "seconds": 0.5,
        "conversation_sha256": conversation_digest(ASKED, None),
    }
    return DecisionRecord.model_validate({**values, **changes})


def open_log(folder: Path, *, max_bytes: int = 1_000_000, files: int = 2) -> AuditLog:
    return AuditLog(str(folder), "replica", max_bytes=max_bytes, files=files)


def lines(path: Path) -> list[DecisionRecord]:
    return [DecisionRecord.model_validate_json(line) for line in path.read_text().splitlines()]


def wait_until_lost(log: AuditLog, count: int) -> None:
    end = time.monotonic() + DEADLINE_S
    while log.lost < count:
        assert time.monotonic() < end, f"lost {log.lost}"
        time.sleep(0.01)


def test_closing_writes_every_line_that_waits(tmp_path):
    log, written = open_log(tmp_path / "new"), [record(f"chatcmpl-{k}") for k in range(2000)]
    for line in written:
        log.write(line)
    log.close()
    assert lines(tmp_path / "new" / "replica.jsonl") == written
    assert log.lost == 0


def test_the_log_is_its_owners_alone(tmp_path):
    log = open_log(tmp_path / "new", max_bytes=500, files=3)
    for _ in range(3):
        log.write(record())
    log.close()
    assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700
    for file in (tmp_path / "new").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_line_says_the_time_in_utc_and_no_text_unless_told(tmp_path):
    log = open_log(tmp_path)
    log.write(record(refuse_probability=math.nan))
    log.write(record(messages=ASKED))
    log.close()
    without, with_text = (json.loads(line) for line in (tmp_path / "replica.jsonl").read_text().splitlines())
    assert without["time"].endswith("Z")
    assert without["refuse_probability"] is None
    assert without["messages"] is None
    assert "how are you" not in json.dumps(without)
    assert with_text["messages"] == ASKED


def test_files_rotate_and_the_oldest_goes(tmp_path):
    log = open_log(tmp_path, max_bytes=2000, files=3)
    for k in range(50):
        log.write(record(f"chatcmpl-{k}"))
    log.close()
    files = sorted(os.listdir(tmp_path))
    assert files == ["replica.jsonl", "replica.jsonl.1", "replica.jsonl.2"]
    assert all((tmp_path / name).stat().st_size <= 2000 for name in files)
    kept = [int(line.request_id.removeprefix("chatcmpl-")) for name in files[::-1] for line in lines(tmp_path / name)]
    assert kept == list(range(50 - len(kept), 50))
    assert len(kept) > 6


def test_a_log_goes_on_behind_half_a_line(tmp_path):
    path = tmp_path / "replica.jsonl"
    path.write_text('{"half')
    log = open_log(tmp_path)
    log.write(record())
    log.close()
    half, whole = path.read_text().splitlines()
    assert half == '{"half'
    DecisionRecord.model_validate_json(whole)


def test_a_full_disk_is_counted_and_told_of_once_and_the_log_goes_on_when_there_is_room(tmp_path, caplog):
    path = tmp_path / "replica.jsonl"
    path.symlink_to("/dev/full")
    log = open_log(tmp_path)
    with caplog.at_level(logging.ERROR, logger="ray.serve"):
        for _ in range(5):
            log.write(record())
        wait_until_lost(log, 5)
    (told,) = caplog.messages
    assert "No space left" in told
    assert "\n" not in told
    path.unlink()
    with caplog.at_level(logging.WARNING, logger="ray.serve"):
        log.write(record("chatcmpl-after"))
        log.close()
    assert "is written again; 5 lines were lost so far" in caplog.messages[-1]
    assert [line.request_id for line in lines(path)] == ["chatcmpl-after"]
    assert log.lost == 5


def test_a_disk_that_hangs_holds_nobody_up_and_what_is_lost_is_counted(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(audit, "WAITING_LINES", 10)
    log = open_log(tmp_path)
    with log._file.lock:  # the writing thread stands where it would stand on a slow disk
        for _ in range(100):
            log.write(record())
        assert 100 - log.lost in (10, 11), "ten wait, and the thread may hold one more"
    lost = log.lost
    log.close()
    assert len(lines(tmp_path / "replica.jsonl")) == 100 - lost
    assert len([record for record in caplog.records if record.name == audit.logger.name]) == 1


def test_a_folder_that_takes_no_file_is_an_error_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        open_log(tmp_path / "file")


def test_a_digest_is_of_the_conversation_not_of_its_writing():
    turned = [{"content": "how are you?", "role": "user"}]
    assert conversation_digest(ASKED, None) == conversation_digest(turned, None)
    assert conversation_digest(ASKED, b"k" * 32) == conversation_digest(turned, b"k" * 32)


def test_without_its_key_nobody_can_look_a_prompt_up():
    digests = {conversation_digest(ASKED, key) for key in (None, b"k" * 32, b"l" * 32)}
    assert len(digests) == 3


@settings(derandomize=True, deadline=None)
@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_conversations_that_differ_have_digests_that_differ(some, others):
    digests = [
        conversation_digest([{"role": "user", "content": text} for text in texts], None) for texts in (some, others)
    ]
    assert (digests[0] == digests[1]) == (some == others)


def test_a_hash_key_is_long_enough(tmp_path):
    path = tmp_path / "key"
    path.write_text("ab" * 32 + "\n")
    assert read_hash_key(str(path)) == b"ab" * 32
    path.write_text("short")
    with pytest.raises(UserError, match="5 characters"):
        read_hash_key(str(path))
    with pytest.raises(UserError, match="No such file"):
        read_hash_key(str(tmp_path / "none"))
