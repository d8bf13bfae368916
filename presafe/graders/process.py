"""math-verify in a process of its own, which is ended where it takes too long.

math-verify guards itself with SIGALRM, which Python allows in a main thread alone and which no long computation in C
hears. In a process of its own it works from any thread, and what the alarm does not stop, ending the process does.
"""

import atexit
import os
import subprocess
import sys
import threading
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection

SECONDS = 30
"""After which a comparison is given up; math-verify's own alarms ring earlier."""


class Comparer:
    """Asks one process, from any thread; a process that died or was ended is replaced at the next question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def __call__(self, candidate: str, reference: str) -> bool | None:
        """Whether two formulas are equal; None where that could not be found out."""
        with self._lock:
            pipe = self._pipe or self._start()
            try:
                pipe.send((candidate, reference))
                if pipe.poll(SECONDS):
                    verdict: bool | None = pipe.recv()
                    return verdict
            except (EOFError, OSError):
                pass  # the process died of this comparison, of memory say
            self.close()
            return None

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.kill()
            self._process.wait()
        self._process = self._pipe = None

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "presafe.graders.worker", str(theirs.fileno())]
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            command, env=os.environ | paths, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
        theirs.close()
        self._pipe = ours
        ours.recv()  # it says that its imports, which may take long on a busy machine, are over
        return ours


def comparison(candidate: str, reference: str) -> bool | None:
    """Whether two formulas are equal, as `Comparer` says."""
    return _shared()(candidate, reference)


@cache
def _shared() -> Comparer:
    comparer = Comparer()
    atexit.register(comparer.close)
    return comparer
