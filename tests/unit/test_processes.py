"""The processes of a private cluster: none outlives its driver, also where what started it was killed."""

import subprocess
import sys

PARENT = """
import os, signal, subprocess, sys
from serve.deployment.processes import descendants, adopt_orphans, kill_descendants

adopt_orphans()
starts = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True); sys.stdin.read()"
between = subprocess.Popen([sys.executable, "-c", starts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
orphan = int(between.stdout.readline())
os.kill(between.pid, signal.SIGKILL)
between.wait()
print(descendants() == [orphan])
kill_descendants()
print(descendants() == [], os.path.exists(f"/proc/{orphan}"))
"""


def test_an_orphan_is_adopted_and_ended() -> None:
    ended = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=True, timeout=300)
    assert ended.stdout.split() == ["True", "True", "False"]
