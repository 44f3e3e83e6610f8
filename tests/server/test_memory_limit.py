# SPDX-License-Identifier: Apache-2.0
"""Under a real memory limit: the kernel kills, and the platform is told 507."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

import psutil
import pytest
from running_server import Server, eventually

CGROUP = Path("/sys/fs/cgroup")
LIMIT_BYTES = 700 << 20


@pytest.fixture
def limited(start: Callable[..., Server]) -> Iterator[Server]:
    """A multi-model server in a control group of its own, whose limit leaves room for small models."""
    is_v1 = (CGROUP / "memory").is_dir()
    group = (CGROUP / "memory" if is_v1 else CGROUP) / f"inference-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if is_v1 else "memory.max")).write_text(str(LIMIT_BYTES))
    except OSError as error:
        pytest.skip(f"needs root and a writable memory control group: {error}")
    try:
        server = start(SAGEMAKER_MULTI_MODEL="true")
        for process in (server.process.pid, *[each.pid for each in server.descendants()]):
            (group / "cgroup.procs").write_text(str(process))
        yield server.ready()
    finally:
        server.kill()
        eventually(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def test_the_kernel_picks_the_worker_and_the_caller_is_told_507(limited: Server) -> None:
    """Memory that runs out in a request and in a load: 507, the other models go on, and there is room again."""
    processes = limited.processes()
    assert limited.load("small").status_code == 200
    assert limited.load("hungry").status_code == 200
    answer = limited.invoke("allocate 2000", "hungry")
    assert answer.status_code == 507
    assert "SIGKILL" in answer.json()["error"]["message"]
    assert limited.load("large", "allocate 2000").status_code == 507
    assert limited.listed() == ["hungry", "small"]
    assert limited.invoke("echo on", "small").text == "on"
    assert limited.invoke("echo on", "hungry").text == "on"
    assert limited.load("large", "allocate 10").status_code == 200
    for role in ("java", "zygote"):
        assert limited.processes()[role] == processes[role]
    assert limited.stop() == 0


def test_who_asks_for_memory_goes_and_nobody_else(limited: Server) -> None:
    """Models of the size of those that are loaded, until there is no room: each earlier one stays the same process."""
    pids = {}
    for number in range(8):
        name = f"model-{number}"
        status = limited.load(name, "hold 130").status_code
        if status != 200:
            break
        pids[name] = limited.invoke("pid", name).text
    assert status == 507
    assert len(pids) >= 2
    # A request's turn: a small model that asks for too much, beside those that have far more and wait.
    assert limited.load("small").status_code == 200
    # The others have had nothing to do for a while.
    eventually(lambda: len(set(map(score, limited.processes()["worker"]))) == 1)
    assert limited.invoke("allocate 500", "small").status_code == 507
    assert {each: limited.invoke("pid", each).text for each in pids} == pids
    assert limited.unload("model-0").status_code == 200
    # DELETE is answered when nothing is asked of the model any more; its memory is free when its process has ended.
    eventually(lambda: not psutil.pid_exists(int(pids["model-0"])))
    # Smaller than what has gone, because the others and the small one have taken a little more meanwhile.
    assert limited.load(name, "hold 100").status_code == 200


def score(process: psutil.Process) -> int:
    """What the kernel adds for a process."""
    return int(Path(f"/proc/{process.pid}/oom_score_adj").read_text())


def scores(server: Server) -> dict[str, int]:
    """The kernel's scores of the first process of each role."""
    return {role: score(found[0]) for role, found in server.processes().items() if found}


def test_workers_ask_to_be_picked_first(multi: Server, model: str) -> None:
    """A worker's score is above that of Java and the zygote; higher while it answers; highest while it loads."""
    with ThreadPoolExecutor() as pool:
        load = pool.submit(multi.load, model, "sleep 1")
        eventually(lambda: scores(multi).get("worker") == 1000)
        assert load.result().status_code == 200
        waiting = eventually(lambda: (found := scores(multi))["worker"] < 1000 and found)
        assert waiting["worker"] > max(waiting["java"], waiting["zygote"])
        answer = pool.submit(multi.invoke, "sleep 1", model)
        eventually(lambda: waiting["worker"] < scores(multi)["worker"] < 1000)
        assert answer.result().status_code == 200
    eventually(lambda: scores(multi) == waiting)
    assert multi.invoke("echo on", model).text == "on"
    multi.unload(model)
