# SPDX-License-Identifier: Apache-2.0
"""A model that meddles with what its worker shares with the zygote harms itself alone, and leaves nothing behind."""

from __future__ import annotations

import mmap
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import psutil
import pytest
from running_server import HANDLER, Server, all_gone, eventually, serving

from sagemaker_inference_lite.ipc import wire


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A multi-model server with a model that is always answered."""
    environ = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "3"}
    with serving(tmp_path_factory.mktemp("base"), HANDLER, **environ) as server:
        assert server.load("neighbour").status_code == 200
        yield server


def assert_unharmed(server: Server, neighbour: str) -> None:
    """The neighbour is the same process as before and answers; nothing has failed in the zygote."""
    assert server.invoke("pid", "neighbour").text == neighbour
    assert server.ping() == 200
    assert len(server.processes()["zygote"]) == 1
    assert "a callback of the zygote's failed" not in server.output()


@pytest.mark.parametrize(
    "packets",
    [
        [b"Lx"],
        [b"I\xff"],
        [b"L5", b"L5"],
        [b"I../../etc"],
        [b"junk" * 1000],
        [b"C", b"C"],
        [b"R"],
        [b"I" + b"a" * 200_000],
    ],
    ids=lambda packets: repr(packets[0][:10]),
)
def test_junk_on_its_events(server: Server, model: str, packets: list[bytes]) -> None:
    """A model that writes what no worker says is ended and loaded again; the others do not notice."""
    neighbour = server.invoke("pid", "neighbour").text
    assert server.load(model).status_code == 200
    worker = psutil.Process(int(server.invoke("pid", model).text))
    server.invoke(f"say {' '.join(packet.hex() for packet in packets)}", model)
    assert eventually(lambda: all_gone([worker]))
    assert eventually(lambda: server.invoke("echo on", model).text == "on")
    assert "it says what no worker does" in server.output()
    assert_unharmed(server, neighbour)
    server.unload(model)


def test_modules_that_are_made_up(server: Server, model: str) -> None:
    """A model that asks for thousands of modules to be imported ahead that are not there holds up no other."""
    names = "\n".join(f"made_up_{number}" for number in range(6000))
    assert server.load(model, f"say {(b'I' + names.encode()).hex()}").status_code == 200
    begun = time.monotonic()
    assert server.load(f"{model}-other").status_code == 200
    assert time.monotonic() - begun < 15
    assert server.invoke("echo on", f"{model}-other").text == "on"
    for name in (model, f"{model}-other"):
        server.unload(name)


@pytest.mark.parametrize("junk", ["ff" * 64, "03" + "00" * 15 + "ffffff7f", "03" + "00" * 15 + "04000000" + "ff" * 4])
def test_junk_in_its_page(server: Server, model: str, junk: str) -> None:
    """A worker whose page holds nonsense when it ends has ended, and nothing more."""
    neighbour = server.invoke("pid", "neighbour").text
    assert server.load(model).status_code == 200
    assert server.invoke(f"scribble {junk}", model).status_code == 500
    assert eventually(lambda: server.invoke("echo on", model).text == "on")
    assert_unharmed(server, neighbour)
    server.unload(model)


def test_a_worker_has_no_page_but_its_own(server: Server, model: str) -> None:
    """What workers share with the zygote is one page in each of them, and the memory for one request."""
    assert server.load(model).status_code == 200
    assert int(server.invoke("shared_bytes", model).text) == mmap.PAGESIZE + wire.LARGE_BODY_AT
    server.unload(model)


def test_what_a_model_has_started_ends_with_it(server: Server, model: str) -> None:
    """Children in sessions of their own, orphans too, end with an unload; those of another model stay."""
    for name in (model, f"{model}-other"):
        assert server.load(name).status_code == 200
    ours, others = (
        [psutil.Process(int(pid)) for pid in server.invoke("daemon 600", name).text.split()]
        for name in (model, f"{model}-other")
    )
    assert server.unload(model).status_code == 200
    assert eventually(lambda: all_gone(ours))
    assert all(process.is_running() for process in others)
    assert server.unload(f"{model}-other").status_code == 200
    assert eventually(lambda: all_gone(others))


@pytest.mark.parametrize("end", ["stop", "kill the zygote"])
def test_what_a_model_has_started_ends_with_the_server(start_single: Callable[..., Server], end: str) -> None:
    """The same where the server stops, or loses its zygote."""
    server = start_single(SAGEMAKER_MODEL_SERVER_WORKERS="1").ready()
    started = [psutil.Process(int(pid)) for pid in server.invoke("daemon 600").text.split()]
    if end == "stop":
        assert server.stop() == 0
    else:
        server.processes()["zygote"][0].kill()
        assert server.ended() == 128 + signal.SIGKILL
    assert eventually(lambda: all_gone(started))


def test_orphans_that_end_are_reaped(server: Server, model: str) -> None:
    """A model that leaves children behind, again and again, leaves no zombies."""
    assert server.load(model).status_code == 200
    server.invoke("orphans 10", model)
    assert eventually(lambda: server.invoke("zombies", model).text == "0")
    server.unload(model)


def test_a_zygote_that_was_stopped_is_continued(start: Callable[..., Server], tmp_path: Path) -> None:
    """Loads do not hang for ever: the log says that it was silent, and it goes on."""
    server = start(SAGEMAKER_MULTI_MODEL="true").ready()
    server.processes()["zygote"][0].suspend()
    begun = time.monotonic()
    assert server.load("late").status_code == 200
    assert time.monotonic() - begun < 20
    assert "has said nothing for 6 seconds" in server.output()
    assert server.stop() == 0
