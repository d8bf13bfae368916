"""The operator's log: what Serve's files say reaches the terminal and the file, once, whole, and across rotation."""

import logging
import os
from logging.handlers import RotatingFileHandler

from serve.operations.operator_log import OperatorLog


def test_lines_reach_terminal_and_file_once_and_whole(tmp_path, capsys):
    log = OperatorLog(str(tmp_path / "state" / "serve-1.log"), str(tmp_path / "serve"))
    log.follow()  # before Serve has written anything
    (tmp_path / "serve").mkdir()
    file = tmp_path / "serve" / "replica.log"
    file.write_text("ERROR one\nWARNING tw")
    log.follow()
    with file.open("a") as more:
        more.write("o\u2028 and\n")
    log.follow()
    log.follow()
    log.close()
    assert capsys.readouterr().err == "ERROR one\nWARNING two\u2028 and\n"
    written = (tmp_path / "state" / "serve-1.log").read_text().split("\n")
    assert [line.split(maxsplit=2)[2] for line in written if line] == ["ERROR one", "WARNING two\u2028 and"]


def test_a_rotated_file_is_read_to_its_end_and_not_again(tmp_path, capsys):
    log = OperatorLog(str(tmp_path / "serve-1.log"), str(tmp_path / "serve"))
    (tmp_path / "serve").mkdir()
    handler = RotatingFileHandler(tmp_path / "serve" / "replica.log", maxBytes=40, backupCount=3)
    for k in range(4):
        handler.emit(logging.makeLogRecord({"msg": f"WARNING number {k} of four"}))
        if k != 1:
            log.follow()
    log.close()
    handler.close()
    assert [line.split()[2] for line in capsys.readouterr().err.splitlines()] == ["0", "1", "2", "3"]


def test_a_full_disk_is_told_of_once_and_the_terminal_goes_on(tmp_path, capsys):
    os.symlink("/dev/full", tmp_path / "serve-1.log")
    log = OperatorLog(str(tmp_path / "serve-1.log"), str(tmp_path / "serve"))
    for k in range(3):
        log.tell(f"line {k}")
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("line")] == ["line 0", "line 1", "line 2"]
    assert len([line for line in said if "cannot be written" in line]) == 1
