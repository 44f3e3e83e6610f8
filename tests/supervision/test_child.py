# SPDX-License-Identifier: Apache-2.0
"""Children that misbehave, and that none of them outlives its owner's wish."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from line import Line
from running_server import eventually

from sagemaker_inference_lite.errors import LaunchError
from sagemaker_inference_lite.supervision.child import ChildProcess

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"


@pytest.fixture
def start(line: Line) -> Iterator[Callable[..., ChildProcess]]:
    """Starts misbehaves.py; ends what the test leaves running."""
    children: list[ChildProcess] = []

    def starter(verb: str, argument: object = "", **keywords: Any) -> ChildProcess:
        environ = keywords.pop("environ", os.environ)
        child = ChildProcess("The child", line.argv(verb, argument), environ, pass_fds=[line.descriptor], **keywords)
        children.append(child)
        return child

    yield starter
    for child in children:
        child.end()


def ended(child: ChildProcess) -> int:
    """The status of a child that ends by itself."""
    eventually(lambda: child.poll() is not None)
    status = child.poll()
    assert status is not None
    return status


def test_a_session_of_its_own(start: Callable[..., ChildProcess], line: Line) -> None:
    """A child leads its own session and process group, so that a terminal's Ctrl-C does not reach it."""
    child = start("hang")
    assert line.read() == b"ready\n"
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
    assert child.poll() is None
    assert child.describe_end() == "The child is running"


@pytest.mark.parametrize("status", [0, 3, 255])
def test_exits_at_once(start: Callable[..., ChildProcess], status: int) -> None:
    """A child that exits is reported with its status, which is also the one to pass on."""
    child = start("exit", status)
    assert ended(child) == status
    assert child.exit_code == status
    assert child.describe_end() == f"The child exited with status {status}"


def test_dies_by_a_signal(start: Callable[..., ChildProcess]) -> None:
    """A child that a signal ended is reported with its name, and passed on as a shell does it."""
    child = start("die", int(signal.SIGTERM))
    assert ended(child) == -signal.SIGTERM
    assert child.exit_code == 128 + signal.SIGTERM
    assert child.describe_end() == "The child was ended by SIGTERM"


def test_killed(start: Callable[..., ChildProcess]) -> None:
    """A child that was killed is said to have been killed for memory, as nobody else kills here."""
    child = start("die", int(signal.SIGKILL))
    assert ended(child) == -signal.SIGKILL
    assert child.exit_code == 137
    assert "killed by SIGKILL: most likely the container ran out of memory" in child.describe_end()


def test_end_of_one_that_ignores_signals(start: Callable[..., ChildProcess], line: Line) -> None:
    """A child that takes no notice of signals is ended all the same, and leaves no zombie."""
    child = start("hang")
    assert line.read() == b"ready\n"
    os.kill(child.pid, signal.SIGTERM)
    assert child.poll() is None
    child.end()
    assert line.rest() == b""
    assert child.poll() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


@pytest.mark.parametrize("argument", ["hang", "exit"])
def test_end_takes_grandchildren_along(start: Callable[..., ChildProcess], line: Line, argument: str) -> None:
    """What a child has started ends with it, also where the child ended long before."""
    child = start("leave", argument)
    assert line.read() == b"ready\n"  # said by the grandchild
    if argument == "exit":
        assert ended(child) == 0
    child.end()
    assert line.rest() == b""


def test_end_again(start: Callable[..., ChildProcess], line: Line) -> None:
    """Ending what has ended changes nothing."""
    child = start("exit", 3, commands=True)
    assert line.rest() == b"ready\n"
    child.end()
    child.end()
    assert child.poll() == 3


def test_environment(start: Callable[..., ChildProcess], line: Line) -> None:
    """A child gets the environment that it is given, and nothing of this process's own."""
    start("say_environment", environ={"ONLY": "this", "LC_ALL": "C.UTF-8"})
    assert line.rest() == b"['LC_ALL', 'ONLY']"


def test_descriptors(start: Callable[..., ChildProcess], line: Line) -> None:
    """A child inherits the descriptors that it is given and no other."""
    with open(os.devnull) as other:
        os.set_inheritable(other.fileno(), True)
        start("say_open", environ={})
        assert line.rest() == repr([line.descriptor]).encode()


def test_commands(start: Callable[..., ChildProcess], line: Line) -> None:
    """Commands reach a child line by line as they are given; its end closes the pipe, and later ones are lost."""
    child = start("echo", commands=True)
    assert line.read() == b"ready\n"
    child.command("one")
    assert line.read() == b"one\n"
    child.command("two")
    assert line.read() == b"two\n"
    os.kill(child.pid, signal.SIGKILL)
    assert line.rest() == b""
    for _ in range(3):
        child.command("nobody reads this")
    child.end()
    child.command("nor this")


def test_no_commands(start: Callable[..., ChildProcess], line: Line) -> None:
    """A child without commands finds nothing at its stdin, and commands to it are lost."""
    child = start("echo")
    child.command("lost")
    assert line.rest() == b"ready\nthe end of stdin\n"
    assert ended(child) == 0


def test_commands_end_with_their_sender(line: Line) -> None:
    """A child that reads commands is told by the pipe's end that its owner was killed."""
    argv = [sys.executable, str(PROGRAMS / "owns_a_child.py"), str(line.descriptor), "echo"]
    with subprocess.Popen(argv, pass_fds=[line.descriptor]) as owner:
        assert line.read() == b"ready\n"
        owner.kill()
    assert line.rest() == b"the end of stdin\n"


@pytest.mark.parametrize(
    ("program", "reason"),
    [("/nowhere/java", "No such file or directory"), ("/", "Permission denied"), (__file__, "Permission denied")],
)
def test_a_program_that_cannot_be_run(program: str, reason: str) -> None:
    """What cannot be run is an error of the launch, with the program and the reason."""
    with pytest.raises(LaunchError) as caught:
        ChildProcess("The front end", [program, "-version"], {})
    assert str(caught.value) == f"The front end cannot be started: {program}: {reason}"
