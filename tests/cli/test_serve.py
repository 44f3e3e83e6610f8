# SPDX-License-Identifier: Apache-2.0
"""``serve`` as a person sees it, at a terminal and into a pipe, with the real server."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
import requests
from commands import COMMAND, Running, run
from running_server import all_gone, eventually, free_port

from sagemaker_inference_lite.cli import main

Start = Callable[..., Running]


def request_of(curl_line: str) -> requests.Response:
    """What a line for curl asks, asked as a shell would take it apart."""
    curl, url, _, header, _, body = shlex.split(curl_line)
    name, _, value = header.partition(": ")
    assert curl == "curl"
    return requests.post(url, data=body.encode(), headers={name: value}, timeout=60)


def is_clean(server: Running) -> bool:
    """Whether nothing is left of a server that has ended."""
    return list(server.temporary.iterdir()) == [] and not list(server.runtime.glob("*/*"))


# -- One model, at a terminal --


def test_a_model_s_file_at_a_terminal(start: Start, tmp_path: Path) -> None:
    """It shows the model, the address and a line that works as printed, then a line per request; Ctrl-C ends it all."""
    joblib, linear = pytest.importorskip("joblib"), pytest.importorskip("sklearn.linear_model")
    joblib.dump(linear.LinearRegression().fit([[0, 0, 0], [1, 2, 3]], [0, 1]), tmp_path / "my price.joblib")
    server = start("serve", "my price.joblib", terminal=True)
    assert server.until(r"^  my-price  (.*)$") == "LinearRegression (scikit-learn), rows of 3 numbers"
    url = server.until(r"^  (http://127\.0\.0\.1:\d+) ")
    line = server.until(r"^  (curl .*)$")
    assert line == f"curl {url}/invocations -H 'Content-Type: application/json' -d '[[0.0, 0.0, 0.0]]'"
    assert request_of(line).status_code == 200
    server.until(r'"POST /invocations HTTP/1.1" 200')
    assert str(tmp_path / "my price.joblib") in server.text
    assert "sil-serve-" not in server.text, "a private path that says nothing to a person"
    assert b"\x1b[" in server.seen
    processes = server.processes()
    assert len(processes) >= 4
    server.press(b"\x03")
    assert server.end() == 0
    assert "Stopping: what is in flight is answered first." in server.text
    eventually(lambda: all_gone(processes))
    assert is_clean(server)


def test_ctrl_c_before_it_serves(start: Start, tmp_path: Path, coded: Callable[..., Path]) -> None:
    """Ctrl-C while a model is loaded ends it with status 130, a second one at once, and nothing is left."""
    coded(tmp_path, "slow", "import time\ntime.sleep(600)\n")
    server = start("serve", "slow", terminal=True)
    server.until("loading from")
    processes = server.processes()
    server.press(b"\x03")
    server.until("Stopping")
    server.press(b"\x03")
    assert server.end() == 130, server.text
    eventually(lambda: all_gone(processes))
    assert is_clean(server)


# -- Into a pipe --


def test_a_model_that_cannot_be_loaded(start: Start, tmp_path: Path, coded: Callable[..., Path]) -> None:
    """The cause, with its file and line, is said last; the status is the container's; nothing is left."""
    coded(tmp_path, "wrong", "def model_fn(model_dir)\n    return 1\n")
    server = start("serve", "wrong")
    assert server.end() == 6, server.text
    last = server.text.rstrip().splitlines()[-1]
    assert last.startswith("error: "), server.text
    assert str(tmp_path / "wrong/code/inference.py") in last
    assert is_clean(server)


def test_several_models_into_a_pipe(served: Running) -> None:
    """Each of several is shown with its time or with its error's sentence; without a terminal it is plain text."""
    assert "left: loaded in " in served.text
    assert "right: loaded in " in served.text
    assert "nothing_of_this_name" in served.until("^wrong: not loaded. (.*)$")
    assert b"\x1b" not in served.seen
    assert b"\r" not in served.seen
    url = served.until(r"^  (http://127\.0\.0\.1:\d+) ")
    answer = requests.post(f"{url}/models/right/invoke", json=[1], timeout=60)
    assert answer.json() == {"by": "right", "got": [1]}
    assert requests.get(f"{url}/models", timeout=60).status_code == 200


def test_only_this_machine_is_listened_to(served: Running) -> None:
    """Unless it is told another address it listens at 127.0.0.1 alone, with the management interface too."""
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in served.processes()
        for connection in process.net_connections("tcp")
        if connection.status == "LISTEN"
    }
    assert listening == {"127.0.0.1"}


def test_nothing_outlives_a_command_that_is_killed(start: Start, tmp_path: Path, coded: Callable[..., Path]) -> None:
    """Where the command itself is killed, its server stops by itself, and removes what was laid out for it."""
    coded(tmp_path, "only")
    server = start("serve", "only", "--workers", "1", SAGEMAKER_MODEL_SERVER_DRAIN_SECONDS="1")
    server.until("Ctrl-C stops it")
    processes = server.processes()
    server.process.kill()
    eventually(lambda: all_gone(processes))
    eventually(lambda: list(server.temporary.iterdir()) == [])


# -- What is refused before anything starts --


@pytest.fixture
def in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with a file that is named as a model's; nothing may be left of what the test does."""
    temporary = tempfile.mkdtemp(prefix="test-")
    monkeypatch.setattr("tempfile.tempdir", temporary)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.joblib").write_bytes(b"x")
    yield tmp_path
    assert os.listdir(temporary) == []
    os.rmdir(temporary)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "Nothing to serve was named."),
        (["absent.joblib"], 2, "absent.joblib does not exist."),
        (["m.jobli"], 2, "m.jobli does not exist. Did you mean m.joblib?"),
        (["m.joblib", "m.joblib"], 2, "Two models have the name m:"),
        (["--model", "m"], 2, "'m' is not of the form NAME=PATH."),
        (["--model", "a/b=m.joblib"], 2, "'a/b' cannot be a model's name"),
        (["m.joblib", "--port", "40000"], 2, "40000 is not in the range 1<=x<=32766"),
        (["m.joblib", "--env", "SAGEMAKER_BIND_TO_PORT=1"], 2, "--env SAGEMAKER_BIND_TO_PORT: --port says it"),
        (["m.joblib", "--env", "SAGEMAKER_BATCH=x"], 2, "SAGEMAKER_BATCH='x': expected true or false"),
        (["m.joblib", "--host", "300.0.0.1"], 2, "'300.0.0.1' is neither an IPv4 address"),
    ],
)
@pytest.mark.usefixtures("in_directory")
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str) -> None:
    """What cannot be served is refused in one sentence, with the mend, before anything is started."""
    assert main(["serve", *arguments], dict(os.environ)) == status
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.startswith("error: ")
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_a_corrupt_archive(capsys: pytest.CaptureFixture[str], in_directory: Path) -> None:
    """An archive that cannot be unpacked is refused in one sentence, and nothing half unpacked is left."""
    (in_directory / "m.tar.gz").write_bytes(b"\x1f\x8b\x08cut")
    assert main(["serve", "m.tar.gz"], dict(os.environ)) == 2
    assert "m.tar.gz is truncated or corrupt" in capsys.readouterr().err


@pytest.mark.usefixtures("in_directory")
def test_a_port_that_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    """A port that was asked for, by an option or a variable, is not exchanged for another: status 3."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert main(["serve", "m.joblib", "--port", str(port)], dict(os.environ)) == 3
        assert f"Port {port} is in use." in capsys.readouterr().err
        assert main(["serve", "m.joblib"], {**os.environ, "SAGEMAKER_BIND_TO_PORT": str(port)}) == 3
    assert f"Port {port} is in use." in capsys.readouterr().err


def test_no_java(capsys: pytest.CaptureFixture[str], in_directory: Path) -> None:
    """Without Java it says which extra brings it: status 3."""
    assert main(["serve", "m.joblib"], {**os.environ, "JAVA_HOME": str(in_directory)}) == 3
    assert "pip install 'sagemaker_inference_lite[local]'" in capsys.readouterr().err


@pytest.mark.usefixtures("in_directory")
def test_no_rich(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the command's libraries it says which extra brings them."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["serve", "m.joblib"], dict(os.environ)) == 1
    assert "pip install 'sagemaker_inference_lite[local]'" in capsys.readouterr().err


@pytest.mark.usefixtures("in_directory")
def test_settings_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """--settings shows what a server would be told, with the options in force, and starts nothing."""
    assert main(["serve", "m.joblib", "--workers", "3", "--timeout", "7", "--settings"], dict(os.environ)) == 0
    rows = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]}
    assert rows["SAGEMAKER_MODEL_SERVER_WORKERS"] == "3"
    assert rows["SAGEMAKER_MODEL_SERVER_TIMEOUT"] == "7"
    assert rows["SAGEMAKER_MULTI_MODEL"] == "false"


def test_help_has_an_example_and_the_statuses() -> None:
    """The help says how to use it and what its exit statuses mean."""
    shown = subprocess.run([*COMMAND, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    assert "sagemaker-inference-lite serve model.joblib" in shown
    assert "Exit status:" in shown


# -- Reload --


def test_models_that_change(start: Start, tmp_path: Path, coded: Callable[..., Path]) -> None:
    """--reload: what has changed is served, a mistake is shown and changes nothing; one that was there is mended."""
    pytest.importorskip("watchfiles")
    good, bad = coded(tmp_path, "good"), coded(tmp_path, "bad", "import nothing_of_this_name\n")
    server = start("serve", "good", "bad", "--reload")
    url = server.until(r"^  (http://127\.0\.0\.1:\d+) ")

    def answer(name: str) -> str:
        return requests.post(f"{url}/models/{name}/invoke", json=[1], timeout=60).text

    server.until("Ctrl-C stops it\n\n.*\n\n")
    program = "def model_fn(model_dir): return 1\ndef predict_fn(data, model): return {!r}\n"
    (good / "code" / "inference.py").write_text(program.format("changed"))
    server.until(r"^good: reloaded in [\d.]+ s \(inference.py\)")
    eventually(lambda: answer("good") == '"changed"')
    (good / "code" / "inference.py").write_text("def model_fn(:\n")
    server.until(
        r"^good: not reloaded, what was served goes on\. .*/good/code/inference.py cannot be imported: SyntaxError"
    )
    assert answer("good") == '"changed"'
    (bad / "code" / "inference.py").write_text(program.format("mended"))
    server.until(r"^bad: loaded in")
    assert answer("bad") == '"mended"'
    server.process.terminate()
    assert server.end() == 0, server.text
    assert is_clean(server)


def test_a_model_that_is_mended(start: Start, tmp_path: Path, coded: Callable[..., Path]) -> None:
    """--reload: a start that failed for the model's sake waits for a change, and is tried again."""
    pytest.importorskip("watchfiles")
    model = coded(tmp_path, "model", "def model_fn(:\n")
    server = start("serve", "model", "--reload")
    server.until("Waiting for a change.")
    (model / "code" / "inference.py").write_text("def model_fn(model_dir): return str\n")
    server.until("Ctrl-C stops it")
    server.process.terminate()
    assert server.end() == 0, server.text
    assert is_clean(server)


def test_a_handler_that_changes(start: Start, tmp_path: Path, coded: Callable[..., Path]) -> None:
    """--reload: the handler of a server's own is taken in anew too; so is an archive."""
    pytest.importorskip("watchfiles")
    coded(tmp_path, "model")
    handler = tmp_path / "handler.py"
    text = (
        "import os\n"
        "def handle(data, context):\n"
        "    return data and [str(sorted(os.listdir(context.system_properties['model_dir']))) + '{}']\n"
    )
    handler.write_text(text.format(1))
    assert run("pack", "model", cwd=tmp_path).returncode == 0
    server = start("serve", "model.tar.gz", "--handler", f"{handler}:handle", "--workers", "1", "--reload")
    url = server.until(r"^  curl (\S+) ")

    def answer() -> str:
        return requests.post(url, data=b"x", timeout=60).text

    assert answer() == "['code']1"
    handler.write_text(text.format(2))
    server.until("reloaded in")
    eventually(lambda: answer() == "['code']2")
    (tmp_path / "model" / "weights").touch()
    assert run("pack", "model", "--force", cwd=tmp_path).returncode == 0
    eventually(lambda: answer() == "['code', 'weights']2", 30)
    server.process.terminate()
    assert server.end() == 0, server.text
    assert is_clean(server)
