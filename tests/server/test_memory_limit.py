# SPDX-License-Identifier: Apache-2.0
"""Under a real memory limit: the kernel kills, and the platform is told 507."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

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


def test_workers_ask_to_be_picked_first(multi: Server, model: str) -> None:
    """A worker's score is above that of the processes whose end would be the container's."""
    multi.load(model)
    scores = {
        role: int(Path(f"/proc/{found[0].pid}/oom_score_adj").read_text())
        for role, found in multi.processes().items()
        if found
    }
    assert scores["worker"] > max(scores["java"], scores["zygote"])
    multi.unload(model)
