# SPDX-License-Identifier: Apache-2.0
"""A container's first process: it owns a child, inherits orphans, and says which of them are left as zombies."""

import os
import subprocess
import sys
import time

from sagemaker_inference_lite.supervision.child import ChildProcess
from sagemaker_inference_lite.supervision.loop import reap_orphans

ORPHANS = 3


def zombies():
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with open(f"/proc/{name}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":
                found.append(int(name))
    return found


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, zombies()
        time.sleep(0.005)


assert os.getpid() == 1, os.getpid()
own = ChildProcess("The child", [sys.executable, "-c", "raise SystemExit(7)"], os.environ)
until(lambda: zombies() == [own.pid])
for _ in range(ORPHANS):
    # The shell ends at once, and what it has started ends after it, as a child of this process.
    subprocess.run(["/bin/sh", "-c", "sleep 0.05 &"], check=True)
until(lambda: len(zombies()) == 1 + ORPHANS)
reap_orphans([own.pid])
assert own.pid in zombies(), "the child's status was taken from its owner"
assert own.poll() == 7
reap_orphans([own.pid])
assert zombies() == [], zombies()
reap_orphans([])
print("all reaped")
