# SPDX-License-Identifier: Apache-2.0
"""``invoke`` as a person uses it: against a server of ``serve``'s, at a terminal and into a pipe."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from commands import COMMAND, Running
from running_server import free_port

from sagemaker_inference_lite.cli import main

HELLO = b'[["hello"]]'


def invoke(served: Running, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command, for the server's user and into pipes."""
    return subprocess.run([*COMMAND, "invoke", *arguments], env=served.environ, input=stdin, capture_output=True)


def test_a_model_of_the_server_that_runs_here(served: Running) -> None:
    """The server is found by itself; the bytes of the answer are on stdout, its status and time on stderr."""
    done = invoke(served, "left", "-d", '[[1, "ü"]]')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"by": "left", "got": [[1, "ü"]]}
    assert done.stderr.startswith(b"200 OK, 0.")
    assert done.stderr.rstrip().endswith(f"s, application/json, {len(done.stdout)} bytes".encode())


def test_data_from_a_file_and_from_stdin(served: Running, tmp_path: Path) -> None:
    """A file's name says its type, with -f as with -d @; what comes from a pipe says it itself; an option says more."""
    rows = tmp_path / "rows.csv"
    rows.write_text("1,2\n")
    for option in (["-f", str(rows)], ["-d", f"@{rows}"]):
        assert json.loads(invoke(served, "left", *option).stdout)["got"] == [[1, 2]]
    assert json.loads(invoke(served, "left", stdin=b"1,2\n").stdout)["got"] == [[1, 2]]
    as_text = invoke(served, "left", "-f", str(rows), "--content-type", "text/plain")
    assert json.loads(as_text.stdout)["got"] == "1,2\n"


def test_what_comes_back(served: Running, tmp_path: Path) -> None:
    """--accept and -H are sent, and -o keeps the body."""
    target = tmp_path / "answer.json"
    done = invoke(served, "left", "-d", "[1]", "-H", "Accept: application/json", "-o", str(target))
    assert done.returncode == 0
    assert done.stdout == b""
    assert json.loads(target.read_bytes())["got"] == [1]
    refused = invoke(served, "left", "-d", "[1]", "--accept", "image/gif")
    assert refused.returncode == 4
    assert refused.stderr.startswith(b"406 ")


def test_statuses(served: Running) -> None:
    """The exit status is the first digit of the answer's; a model must be named where there are several."""
    assert invoke(served, "left", "-d", "{", "--content-type", "application/json").returncode == 4
    assert invoke(served, "absent", "-d", "[1]").returncode == 4
    unnamed = invoke(served, "-d", "[1]")
    assert unnamed.returncode == 2
    assert b"Which model? The server at http://127.0.0.1:" in unnamed.stderr
    assert b"has left, right." in unnamed.stderr


def test_many_at_once(served: Running) -> None:
    """--repeat counts and measures, as text and as JSON."""
    arguments = ("left", "-d", "[1]", "--repeat", "40", "--concurrency", "2")
    shown = invoke(served, *arguments)
    assert shown.returncode == 0, shown.stderr
    assert b"40 answers in " in shown.stdout
    assert b"status 200: 40" in shown.stdout
    assert b"p50 " in shown.stdout
    numbers = json.loads(invoke(served, *arguments, "--json").stdout)
    assert numbers["statuses"] == {"200": 40}
    assert sum(bar["answers"] for bar in numbers["histogram"]) == numbers["requests"] == 40
    assert 0 < numbers["p50"] <= numbers["p90"] <= numbers["p99"] <= numbers["slowest"]


def test_at_a_terminal(served: Running, tmp_path: Path) -> None:
    """There JSON is laid out, and Ctrl-C during many requests shows what there is."""
    variables = {name: served.environ[name] for name in ("XDG_RUNTIME_DIR",)}
    rows = json.dumps([[number, number] for number in range(20)])
    asked = Running(["invoke", "left", "-d", rows], tmp_path, terminal=True, **variables)
    try:
        assert asked.end() == 0, asked.text
        assert '{\n  "by": "left",\n  "got": [\n    [0, 0],\n' in asked.text
    finally:
        asked.kill()
    many = Running(["invoke", "left", "-d", "[1]", "--repeat", "1000000"], tmp_path, terminal=True, **variables)
    try:
        many.until(r"[1-9]\d*/1000000")
        many.press(b"\x03")
        assert many.end() == 130, many.text
        assert " per second" in many.text
        assert "█" in many.text
    finally:
        many.kill()


def test_nobody_answers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Where nobody listens it says how to start a server: status 1."""
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    url = f"127.0.0.1:{free_port()}"
    assert main(["invoke", "-d", "[1]", "--url", url], environ) == 1
    assert f"Nobody listens at http://{url}. Start a server with" in capsys.readouterr().err
    assert main(["invoke", "-d", "[1]", "--url", url, "--repeat", "2"], environ) == 1
    assert "without an answer: 2 (Nobody listens at" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-f", "absent.csv", "-d", "[1]"], "--data and --file exclude each other"),
        (["-f", "absent.csv"], "absent.csv cannot be read: No such file or directory."),
        (["-d", "[1]", "--json"], "go with --repeat"),
        (["-d", "[1]", "--repeat", "2", "-o", "x"], "exclude each other"),
        (["-d", "[1]", "-H", "nothing"], "'nothing' is not a header"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    """What cannot be sent is refused in one sentence: status 2."""
    assert main(["invoke", *arguments], {}) == 2
    assert said in capsys.readouterr().err


def test_what_is_no_address(capsys: pytest.CaptureFixture[str]) -> None:
    """An address that is none is said to be that."""
    assert main(["invoke", "-d", "[1]", "--url", "ftp://x"], {}) == 1
    assert "ftp://x is not an HTTP address" in capsys.readouterr().err


def test_nothing_to_send(served: Running) -> None:
    """Without data it says how to give some: status 2."""
    done = invoke(served, "left")
    assert done.returncode == 2
    assert b"There is nothing to send" in done.stderr
