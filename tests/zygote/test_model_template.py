# SPDX-License-Identifier: Apache-2.0
"""The model template of a shared model, seen from the zygote: each of its states, and what it says last."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator

import pytest

from sagemaker_inference_lite.ipc import wire
from sagemaker_inference_lite.zygote.event_loop import EventLoop
from sagemaker_inference_lite.zygote.model_template import ModelTemplate, State

LOAD = wire.Load("model", "/model", 1, "handler", None)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ({"milliseconds": 1, "unfit": "its load starts threads (1)"}, "its load starts threads (1)"),
        (None, "it could not be loaded"),
    ],
)
def test_the_end_of_a_template_is_seen_before_its_message(
    caplog: pytest.LogCaptureFixture, word: dict[str, object] | None, reason: str
) -> None:
    """The reason that it gave is the one that is logged; where it gave none, that is."""
    pids: list[int] = []
    held: list[socket.socket] = []

    def fork_template(control: socket.socket, load: wire.Load) -> int:
        if word is not None:
            control.send(json.dumps(word).encode())
        held.append(control.dup())  # as a process that the load has started
        process = subprocess.Popen(["true"])
        process.wait()
        pids.append(process.pid)
        return process.pid

    shared = ModelTemplate(EventLoop(), fork_template, 60)
    assert shared.is_pending(LOAD)
    shared.child_ended(pids[0])
    assert f"each worker loads it by itself: {reason}" in caplog.text
    assert not shared.is_pending(LOAD)
    assert len(pids) == 1
    held[0].close()


class Forks:
    """Stands for the zygote's forks: processes that only sleep, and the sockets by which they are spoken for."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.controls: list[socket.socket] = []

    def fork(self, control: socket.socket, load: wire.Load) -> int:
        """One more process."""
        self.controls.append(control.dup())
        self.processes.append(subprocess.Popen(["sleep", "60"], start_new_session=True))
        return self.processes[-1].pid

    def say(self, unfit: str = "") -> None:
        """The last of them tells that it has loaded."""
        self.controls[-1].send(json.dumps({"milliseconds": 1, "unfit": unfit}).encode())

    def end(self) -> int:
        """The last of them ends; its pid."""
        self.processes[-1].kill()
        self.processes[-1].wait(20)
        return self.processes[-1].pid


@pytest.fixture
def forks() -> Iterator[Forks]:
    """Processes, ended afterwards."""
    made = Forks()
    yield made
    for process, control in zip(made.processes, made.controls):
        process.kill()
        process.wait(20)
        control.close()


def state(shared: ModelTemplate) -> State:
    """Its state, which a type checker would take for one that cannot change."""
    return shared.state


def test_from_absent_to_ready_and_back(forks: Forks) -> None:
    """A template that ends is made anew when a worker is to be forked, and given up when that happens too often."""
    loop = EventLoop()
    shared = ModelTemplate(loop, forks.fork, 60)
    assert state(shared) is State.ABSENT
    for deaths in (1, 2, 3):
        assert shared.is_pending(LOAD)
        assert state(shared) is State.LOADING
        forks.say()
        loop.turn(1)
        assert state(shared) is State.READY
        assert not shared.is_pending(LOAD)
        assert shared.holders() == [forks.processes[-1].pid]
        shared.child_ended(forks.end())
        assert state(shared) is (State.GIVEN_UP if deaths == 3 else State.ABSENT)
        assert shared.holders() == []
    assert not shared.is_pending(LOAD)
    assert len(forks.processes) == 3


def test_one_that_does_not_answer_is_absent(forks: Forks) -> None:
    """A template that cannot fork is ended, and the worker loads by itself."""
    loop = EventLoop()
    shared = ModelTemplate(loop, forks.fork, 60)
    shared.is_pending(LOAD)
    forks.say()
    loop.turn(1)
    forks.controls[-1].send(b'{"error": "no more processes"}')
    assert shared.spawn({}, []) is None
    assert state(shared) is State.ABSENT
    assert forks.processes[-1].wait(20) < 0


def test_one_that_takes_too_long_is_given_up(forks: Forks) -> None:
    """The load has a limit, after which workers load by themselves for good."""
    loop = EventLoop()
    shared = ModelTemplate(loop, forks.fork, 0.05)
    assert shared.is_pending(LOAD)
    loop.turn(5)
    assert state(shared) is State.GIVEN_UP
    assert forks.processes[-1].wait(20) < 0


def test_one_that_cannot_be_forked_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """Neither for a GPU, nor without processes: workers load by themselves."""

    def fails(control: socket.socket, load: wire.Load) -> int:
        raise OSError("no more processes")

    for load, reason in ((LOAD, "no more processes"), (LOAD._replace(gpu_id=0), "CUDA cannot be used after a fork")):
        shared = ModelTemplate(EventLoop(), fails, 60)
        assert not shared.is_pending(load)
        assert state(shared) is State.GIVEN_UP
        assert reason in caplog.text
