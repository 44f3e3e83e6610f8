# SPDX-License-Identifier: Apache-2.0
"""The container's entry point and its handler: what they serve, and the exit statuses."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from running_server import eventually, free_port

CONTAINER = Path(__file__).resolve().parents[1] / "container"
ENTRY_POINT = CONTAINER / "dockerd-entrypoint.py"

PROGRAM = """
def model_fn(model_dir):
    return 3

def predict_fn(data, model):
    return data * model
"""


def run(*arguments: str, entry_point: Path = ENTRY_POINT, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the entry point to its end."""
    command = [sys.executable, str(entry_point), *arguments]
    return subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=60)


def is_one_sentence(stderr: str) -> bool:
    """Whether something tells a person what is wrong, and no more."""
    return bool(stderr.strip()) and stderr.strip().count("\n") == 0 and "Traceback" not in stderr


# -- Other commands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_status_of_a_command_is_passed_on(status: int) -> None:
    """Anything but serve is run as a command, and its exit status is the entry point's."""
    assert run("sh", "-c", f"exit {status}").returncode == status


def test_a_command_gets_its_arguments_as_they_are() -> None:
    """Spaces, quotes and dollar signs in arguments reach the command; no shell reads them."""
    done = run(sys.executable, "-c", "import sys; print(sys.argv[1:])", "a b", "$HOME", "'")
    assert done.stdout.strip() == repr(["a b", "$HOME", "'"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_command_that_a_signal_ends(number: signal.Signals) -> None:
    """The status is 128 + the signal, as a shell has it."""
    assert run("sh", "-c", f"kill -{number} $$").returncode == 128 + number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_passed_on_to_the_command(number: signal.Signals) -> None:
    """What the entry point is sent reaches the command, which decides how to end."""
    code = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(5))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, str(ENTRY_POINT), sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(20) == 5


def test_no_arguments() -> None:
    """Without arguments it says what it takes, and ends with status 2."""
    done = run()
    assert done.returncode == 2
    assert is_one_sentence(done.stderr)
    assert done.stderr.startswith("usage: dockerd-entrypoint.py serve")


def test_a_command_that_is_not_there() -> None:
    """A command that is not found has status 127, as in a shell."""
    done = run("no-such-command", "--at-all")
    assert done.returncode == 127
    assert is_one_sentence(done.stderr)
    assert "no-such-command" in done.stderr


def test_a_command_that_is_no_program(tmp_path: Path) -> None:
    """A file that is no program has status 126, as in a shell."""
    file = tmp_path / "data"
    file.write_text("")
    done = run(str(file))
    assert done.returncode == 126
    assert is_one_sentence(done.stderr)


# -- Errors of the server ----------------------------------------------------------------------------------------------


def test_settings_that_cannot_be_used() -> None:
    """Settings that cannot be used are named on stderr; the status is 2."""
    done = run("serve", SAGEMAKER_MODEL_SERVER_WORKERS="two")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "1 setting cannot be used:",
        "  SAGEMAKER_MODEL_SERVER_WORKERS='two': expected a whole number >= 1",
    ]


def test_no_java() -> None:
    """A JAVA_HOME without a Java is one sentence on stderr, and status 3."""
    done = run("serve", SAGEMAKER_MULTI_MODEL="true", JAVA_HOME="/nowhere")
    assert done.returncode == 3
    assert is_one_sentence(done.stderr)
    assert "/nowhere" in done.stderr


def test_no_model_directory(tmp_path: Path) -> None:
    """A single model that is not there is one sentence on stderr, and status 3."""
    done = run("serve", SAGEMAKER_BASE_DIR=str(tmp_path), SAGEMAKER_BIND_TO_PORT=str(free_port()))
    assert done.returncode == 3
    assert is_one_sentence(done.stderr)
    assert str(tmp_path / "model") in done.stderr


def test_no_handler(tmp_path: Path) -> None:
    """A handler that is not there is one sentence on stderr, and status 4."""
    missing = tmp_path / "nowhere" / "handler.py"
    done = run(
        "serve",
        SAGEMAKER_MULTI_MODEL="true",
        SAGEMAKER_BIND_TO_PORT=str(free_port()),
        SAGEMAKER_HANDLER=f"{missing}:handle",
    )
    assert done.returncode == 4
    assert is_one_sentence(done.stderr)
    assert str(missing) in done.stderr
    assert "Traceback" not in done.stdout


def test_the_handler_of_the_image(tmp_path: Path) -> None:
    """Where none lies beside the entry point, it is the image's, whether that is there or not."""
    done = run(
        "serve",
        entry_point=Path(shutil.copy(ENTRY_POINT, tmp_path)),
        SAGEMAKER_MULTI_MODEL="true",
        SAGEMAKER_BIND_TO_PORT=str(free_port()),
        SAGEMAKER_HANDLER=" ",
    )
    assert done.returncode == 4
    assert "/home/model-server/model_handler.py" in done.stderr


# -- Entry points of one's own -----------------------------------------------------------------------------------------

TWO_LINES = """
from sagemaker_inference_lite import model_server
model_server.start_model_server(handler_service="/nowhere/handler.py:handle")
"""

# As AWS's sample for containers of one's own has it: it tries again where a process that it has called failed.
SAMPLE = """
import shlex, subprocess, sys
from subprocess import CalledProcessError
from retrying import retry
from sagemaker_inference_lite import model_server

@retry(stop_max_delay=1000 * 50, retry_on_exception=lambda error: isinstance(error, CalledProcessError or OSError))
def start():
    model_server.start_model_server(handler_service="/nowhere/handler.py:handle")

if sys.argv[1] == "serve":
    start()
else:
    subprocess.check_call(shlex.split(" ".join(sys.argv[1:])))
"""


@pytest.mark.parametrize("program", [TWO_LINES, SAMPLE], ids=["two lines", "AWS's sample"])
def test_an_error_that_nobody_catches(program: str, tmp_path: Path) -> None:
    """It ends the program in one sentence and with its own status, not in a traceback."""
    file = tmp_path / "entry.py"
    file.write_text(program)
    done = run("serve", entry_point=file, SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_BIND_TO_PORT=str(free_port()))
    assert done.returncode == 4
    assert is_one_sentence(done.stderr)
    assert "/nowhere/handler.py" in done.stderr
    assert "Traceback" not in done.stdout


def test_an_error_of_the_program_s_own(tmp_path: Path) -> None:
    """Errors that are none of this library's are shown as ever, and a hook of the program's own is called for them."""
    file = tmp_path / "entry.py"
    for hook, shown in (("", "Traceback"), ("sys.excepthook = lambda *_: print('mine', file=sys.stderr)\n", "mine")):
        file.write_text(
            f"import sys\nfrom sagemaker_inference_lite import errors, model_server\n{hook}"
            "try:\n    model_server.start_model_server()\nexcept errors.LaunchError:\n    raise KeyError('own')\n"
        )
        done = run(entry_point=file, SAGEMAKER_BATCH="x")
        assert done.returncode == 1
        assert shown in done.stderr


def test_misspelt_variables_come_first(tmp_path: Path) -> None:
    """What is misspelt is warned of though the start fails, most likely because of it."""
    done = run("serve", SAGEMAKER_BASE_DIR=str(tmp_path), SAGEMAKER_MULTIMODEL="true")
    assert done.returncode == 3
    assert "SAGEMAKER_MULTIMODEL is not a setting and is ignored; did you mean SAGEMAKER_MULTI_MODEL?" in done.stdout


# -- Serving -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], str]]]:
    """Starts ``serve`` with one model that multiplies by 3, and waits until it is ready; ends it in any case."""
    started: list[subprocess.Popen[bytes]] = []
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text(PROGRAM)

    def start(**environ: str) -> tuple[subprocess.Popen[bytes], str]:
        url = f"http://127.0.0.1:{free_port()}"
        settings = {
            "SAGEMAKER_BASE_DIR": str(tmp_path),
            "SAGEMAKER_BIND_TO_PORT": url.rpartition(":")[2],
            "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
            "MMS_INFERENCE_ADDRESS": url,
        }
        with (tmp_path / "log").open("wb") as log:
            command = [sys.executable, str(ENTRY_POINT), "serve"]
            process = subprocess.Popen(
                command, env={**os.environ, **settings, **environ}, stdout=log, stderr=log, start_new_session=True
            )
        started.append(process)
        eventually(lambda: is_ready(process, url), 60)
        return process, url

    yield start
    for process in started:
        process.kill()
        process.wait()


def is_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    """Whether /ping is answered 200; the test fails where the server has ended."""
    assert process.poll() is None, f"the server ended with status {process.returncode}"
    try:
        return requests.get(f"{url}/ping", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve(
    serve: Callable[..., tuple[subprocess.Popen[bytes], str]], tmp_path: Path, number: signal.Signals
) -> None:
    """It serves the model with the container's handler, and ends with status 0 when it is asked to stop."""
    process, url = serve(SAGEMAKER_CONTAINER_LOG_LEVEL="DEBUG")
    assert requests.post(f"{url}/invocations", json=[14], timeout=20).json() == [42]
    process.send_signal(number)
    assert process.wait(40) == 0
    log = (tmp_path / "log").read_text()
    assert re.search(r"model_handler \[[0-9a-f-]+\] - predicted in ", log)
    assert "Traceback" not in log
