"""The processes that a private cluster leaves to its driver. Linux only: elsewhere Ray's own ways have to do."""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on a process whose parent dies becomes a child of this one, and not of the machine's first process.

    So what a raylet started stays in reach when the raylet is killed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants(timeout_s: float = 5) -> None:
    """SIGKILL for all processes below this one, until there is none or the time is over."""
    end = time.monotonic() + timeout_s
    while (running := descendants()) and time.monotonic() < end:
        for pid in running:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        _reap()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _reap() -> None:
    """Take leave of children that ended, the adopted ones too."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def descendants() -> list[int]:
    """Ids of all processes below this one, ended ones included that nobody took leave of."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents().items():
        children.setdefault(parent, []).append(pid)
    found, look = [], [os.getpid()]
    while look:
        below = children.get(look.pop(), [])
        found += below
        look += below
    return found


def _parents() -> dict[int, int]:
    """Every process of the machine and its parent; ended ones that nobody took leave of included."""
    parents = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else []:
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
    return parents
