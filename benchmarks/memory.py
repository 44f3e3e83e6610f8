# SPDX-License-Identifier: Apache-2.0
"""What a further model costs: a worker's private memory at each step of its birth, on each Python that is found.

    python benchmarks/memory.py [--python VERSION ...] [--models N]

On a real server, with the default handler service. Models' own programs import scikit-learn, and each model makes a
regression. The first has everything imported ahead; the others are measured. Private memory is what no other process
shares: Private_Dirty and Private_Clean of /proc/PID/smaps_rollup. A figure is the median of the models.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SERVED = ROOT / "benchmarks" / "served"
sys.path.append(str(ROOT / "tools"))

from environments import PrepareError, prepare  # noqa: E402  # it is found in tools/ alone
from run_tests import VERSIONS, find_python  # noqa: E402

PROGRAM = """
import numpy as np
from sklearn.linear_model import LinearRegression


def model_fn(model_dir):
    model = LinearRegression()
    model.coef_, model.intercept_ = np.ones((1, 4)), np.zeros(1)
    return model
"""

# The steps in their order, as the module that notes them calls them.
STEPS = ("forked", "a worker", "code on the path", "program imported", "model loaded")
ANSWERS = ("first answer", "second answer")
_START_SECONDS = 60


class Server(NamedTuple):
    """A server that runs.

    Attributes:
        port: Where it listens.
        directory: Its models are made there.
        log: What it prints.
        notes: What its workers note.
    """

    port: int
    directory: Path
    log: Path
    notes: Path

    def ask(self, method: str, path: str, body: object = None) -> str:
        """The body of the answer; fails unless that is 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path} was answered {answer.status} {text}\n{self.log.read_text()}")
        return text

    def load(self, name: str) -> None:
        """Loads a model that is made for it."""
        code = self.directory / name / "code"
        code.mkdir(parents=True)
        (code / "inference.py").write_text(PROGRAM)
        self.ask("POST", "/models", {"model_name": name, "url": str(code.parent)})

    def predict(self, name: str) -> None:
        """Asks a model."""
        answer = json.loads(self.ask("POST", f"/models/{name}/invoke", [[1, 2, 3, 4]]))
        if answer != [[10.0]]:
            raise RuntimeError(f"{name} answered {answer}")


@contextmanager
def serving(python: Path) -> Iterator[Server]:
    """A server of several models that has been started with that interpreter, and is ready."""
    directory = Path(tempfile.mkdtemp(prefix="births-", dir="/tmp"))
    server = Server(random.randint(20000, 32000), directory, directory / "log", directory / "notes")
    url = f"http://127.0.0.1:{server.port}"
    environ = {
        **os.environ,
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BIND_TO_PORT": str(server.port),
        "MMS_INFERENCE_ADDRESS": url,
        "MMS_MANAGEMENT_ADDRESS": url,
        "SAGEMAKER_MODEL_SERVER_PRELOAD": "measures_births",
        "MEASURED_BIRTHS": str(server.notes),
        "PYTHONPATH": str(SERVED / "births"),
        "TMPDIR": str(directory),
    }
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [python, SERVED / "ours.py"], env=environ, stdout=log, stderr=log, cwd=directory, start_new_session=True
        )
    try:
        wait_until(lambda: _answers(server) or process.poll() is not None, "listen", server)
        yield server
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _answers(server: Server) -> bool:
    try:
        server.ask("GET", "/ping")
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], bool], what: str, server: Server) -> None:
    """Waits for a condition; fails with the server's output."""
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"it did not {what} within {_START_SECONDS} seconds\n{server.log.read_text()}")
        time.sleep(0.02)


def measure(python: Path, models: int) -> dict[str, float]:
    """The private memory of a worker after each step, in MB."""
    with serving(python) as server:
        server.load("first")
        server.predict("first")
        wait_until(lambda: "for further workers to share" in server.log.read_text(), "import ahead", server)
        already = len(births(server.notes))
        names = [f"model-{number}" for number in range(models)]
        for name in names:
            server.load(name)
        for name in names * 2:
            server.predict(name)
        found = births(server.notes)[already:]
    if len(found) != models:
        raise RuntimeError(f"{len(found)} workers were born for {models} models")
    return {step: statistics.median(each[step] for each in found) / 1e6 for step in (*STEPS, *ANSWERS)}


def births(notes: Path) -> list[dict[str, int]]:
    """What each process has noted that became a worker: bytes, by step."""
    by_pid: dict[str, list[tuple[str, int]]] = {}
    for note in notes.read_text().split("\n\n"):
        head, _, rollup = note.partition("\n")
        if rollup:
            step, pid = head.rsplit(" ", 1)
            by_pid.setdefault(pid, []).append((step, _private(rollup)))
    return [_named(steps) for steps in by_pid.values() if "model loaded" in dict(steps)]


def _private(rollup: str) -> int:
    return sum(1024 * int(size) for size in re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB$", rollup, re.MULTILINE))


def _named(steps: Sequence[tuple[str, int]]) -> dict[str, int]:
    """The memory after each step; when several notes are of one step, the last one is."""
    answered = [memory for step, memory in steps if step == "answered"]
    return {**dict(steps), **dict(zip(ANSWERS, answered))}


def table(figures: dict[str, dict[str, float]]) -> str:
    """The figures in Markdown: what there is after each step, and in brackets what the step has added."""
    lines = [f"| MB after | {' | '.join(figures)} |", "|---" * (len(figures) + 1) + "|"]
    before = dict.fromkeys(figures, 0.0)
    for step in (*STEPS, *ANSWERS):
        cells = [f"{found[step]:.2f} (+{found[step] - before[name]:.2f})" for name, found in figures.items()]
        before = {name: found[step] for name, found in figures.items()}
        lines.append(f"| {step} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description="Measure a worker's private memory at each step of its birth.")
    parser.add_argument("--python", action="append", choices=VERSIONS, help="a version; may be repeated")
    parser.add_argument("--models", type=int, default=5, help="how many models a figure is the median of")
    arguments = parser.parse_args()
    figures = {}
    for version in arguments.python or VERSIONS:
        python = find_python(version)
        if python is None:
            print(f"Python {version} is not here", file=sys.stderr)
            continue
        try:
            figures[version] = measure(prepare("demo", python).programs / "python", arguments.models)
        except PrepareError as error:
            print(f"Python {version} is left out: {error}", file=sys.stderr)
    print(table(figures))
    return 0 if figures else 1


if __name__ == "__main__":
    sys.exit(main())
