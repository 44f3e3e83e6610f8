# SPDX-License-Identifier: Apache-2.0
"""How a server ends: drained, at once, or because a part of it has died. Nothing is left in any case."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

import psutil
import pytest
import requests
from running_server import HANDLER, PROGRAMS, Server, all_gone, eventually, free_port

Start = Callable[..., Server]


def in_flight(server: Server, command: str) -> list[requests.Response]:
    """Send a request in the background; the list gets its answer."""
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(server.invoke(command)), daemon=True)
    thread.start()
    time.sleep(0.5)  # for the request to be in the worker's hands
    return answers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_answered(start_single: Start, number: signal.Signals) -> None:
    """After the signal /ping is 503, the request that runs gets its answer, and the server exits with 0."""
    server = start_single(SAGEMAKER_MODEL_SERVER_WORKERS="1").ready()
    processes = server.descendants()
    answers = in_flight(server, "sleep 2")
    server.process.send_signal(number)
    assert eventually(lambda: server.ping() == 503, 1)
    assert server.invoke("echo late").status_code == 503
    assert server.ended() == 0
    assert [answer.text for answer in answers] == ["slept"]
    assert all_gone(processes)
    assert list(server.temporary.iterdir()) == []


def test_no_answer_is_dropped_under_load(start_single: Start) -> None:
    """Clients that never pause: every request that was sent is answered, with 200 or with 503, or never taken."""
    server = start_single(SAGEMAKER_MODEL_SERVER_WORKERS="2").ready()
    statuses: list[object] = []

    def ask_until_refused() -> None:
        with requests.Session() as session:
            while True:
                try:
                    answer = session.post(
                        server.url + "/invocations", data=b"sleep 0.01", headers={"Content-Type": "a/b"}
                    )
                    statuses.append(answer.status_code)
                except requests.ConnectionError as error:
                    # The port is closed: nobody has taken the request.
                    statuses.append("refused" if "refused" in str(error) else error)
                if statuses[-1] != 200:
                    return

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(ask_until_refused)
        time.sleep(1)
        assert server.stop() == 0
    assert set(statuses) <= {200, 503, "refused"}
    assert statuses.count(200) > 8


def test_a_request_that_does_not_end_is_not_waited_for(start_single: Start) -> None:
    """After SAGEMAKER_MODEL_SERVER_DRAIN_SECONDS what still runs is dropped; the server stops all the same."""
    server = start_single(SAGEMAKER_MODEL_SERVER_WORKERS="1", SAGEMAKER_MODEL_SERVER_DRAIN_SECONDS="1").ready()
    threading.Timer(0.5, server.process.send_signal, [signal.SIGTERM]).start()
    with pytest.raises(requests.ConnectionError):
        server.invoke("sleep 50")
    assert server.ended(5) == 0
    assert "requests are still in flight after 1 seconds" in server.output()


def test_a_second_signal_ends_at_once(start_single: Start) -> None:
    """Whoever asks twice does not want to wait: 128 + the signal, and nothing left."""
    server = start_single(SAGEMAKER_MODEL_SERVER_WORKERS="1").ready()
    processes = server.descendants()
    in_flight_thread = threading.Thread(target=lambda: _swallow(server), daemon=True)
    in_flight_thread.start()
    time.sleep(0.5)
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: server.ping() == 503)
    server.process.send_signal(signal.SIGINT)
    assert server.ended(5) == 128 + signal.SIGINT
    assert all_gone(processes)
    in_flight_thread.join()


def _swallow(server: Server) -> None:
    with contextlib.suppress(requests.ConnectionError):
        server.invoke("sleep 20")


def test_a_signal_during_the_start_is_heeded(start: Start, tmp_path: Path) -> None:
    """SIGTERM while the handler is being imported: the server ends with 0, without having started the front end."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(30)\n")
    server = start("slow.py:handle", SAGEMAKER_MULTI_MODEL="true")
    eventually(lambda: list(server.temporary.iterdir()))
    time.sleep(0.5)
    assert server.stop() == 0
    assert list(server.temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("role", "sentence"),
    [
        ("java", "The front end (Java) was killed by SIGKILL: most likely the container ran out of memory."),
        ("zygote", "The zygote was killed by SIGKILL: most likely the container ran out of memory."),
    ],
)
def test_the_end_of_a_part_is_the_end_of_the_whole(start: Start, role: str, sentence: str) -> None:
    """Java or the zygote killed: the others end too, the status says how it was, and a sentence says what."""
    server = start(SAGEMAKER_MULTI_MODEL="true").ready()
    server.load("m")
    server.invoke("grandchild 60", "m")
    processes = server.descendants()
    server.processes()[role][0].kill()
    assert server.ended(10) == 128 + signal.SIGKILL
    assert sentence in server.output()
    assert eventually(lambda: all_gone(processes), 5)
    assert list(server.temporary.iterdir()) == []


def test_the_supervisor_killed_takes_everything_along(start: Start) -> None:
    """SIGKILL of the supervisor itself: no process, no port, no directory is left."""
    server = start(SAGEMAKER_MULTI_MODEL="true").ready()
    server.load("m")
    processes = server.descendants()
    server.process.kill()
    server.process.wait()
    assert eventually(lambda: all_gone(processes), 10)
    assert eventually(lambda: list(server.temporary.iterdir()) == [])
    assert server.ping() is None


def test_the_supervisor_killed_during_the_start_takes_everything_along(start: Start, tmp_path: Path) -> None:
    """The same while the handler is being imported."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(30)\n")
    server = start("slow.py:handle", SAGEMAKER_MULTI_MODEL="true")
    processes = eventually(server.descendants)
    server.process.kill()
    server.process.wait()
    assert eventually(lambda: all_gone(processes), 10)
    assert eventually(lambda: list(server.temporary.iterdir()) == [])


def test_a_restart_finds_nothing_in_its_way(start: Start) -> None:
    """The same port serves again at once."""
    first = start(SAGEMAKER_MULTI_MODEL="true").ready()
    first.invoke("echo", "nobody")
    assert first.stop() == 0
    second = start(
        SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_BIND_TO_PORT=str(first.port), MMS_INFERENCE_ADDRESS=first.url
    )
    second.url = first.url
    assert second.ready().stop() == 0


def test_a_handler_that_prints_without_end_does_not_hold_up_the_stop(start_single: Start) -> None:
    """A worker that floods the log is ended like any other; its output stops with it."""
    server = start_single(SAGEMAKER_MODEL_SERVER_WORKERS="1", SAGEMAKER_MODEL_SERVER_TIMEOUT="1").ready()
    assert server.invoke("print_forever").status_code == 504
    assert eventually(lambda: server.ping() == 200)  # its successor has loaded the model
    assert server.stop() == 0


def test_as_pid_1_it_reaps_strangers(tmp_path: Path) -> None:
    """As PID 1 of a container, orphans that end become no zombies."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and util-linux's unshare to make a PID namespace")
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "on_load").write_text("echo")
    environ = {"SAGEMAKER_BASE_DIR": str(tmp_path), "SAGEMAKER_BIND_TO_PORT": port, "MMS_INFERENCE_ADDRESS": url}
    argv = [
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        sys.executable,
        str(PROGRAMS / "serve.py"),
        HANDLER,
    ]
    with subprocess.Popen(argv, env={**os.environ, **environ}) as process:
        try:
            client = Server.__new__(Server)
            client.url = url
            assert eventually(lambda: client.ping() == 200, 60)
            # Orphaned by a parent that ends at once, and ended soon after.
            assert client.invoke("orphans 5").text == "5"
            assert eventually(lambda: client.invoke("zombies").text == "0")
            (pid_1,) = psutil.Process(process.pid).children()
            pid_1.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
