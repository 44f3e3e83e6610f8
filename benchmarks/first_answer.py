# SPDX-License-Identifier: Apache-2.0
"""From nothing to a first answer, step by step: this library beside what people would install instead.

    make bench-first-answer

Each tool starts with the same: an environment that has scikit-learn, and a directory with model.joblib, as somebody
has who has just trained it. Then come the steps that its own documentation asks for: commands that are typed, and files
that are written. The last one asks until there is an answer. Needs nothing but the standard library of Python 3.9.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import json
import os
import random
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import machine
from benchmarks.environment import PrepareError, build_wheel, version

_TRAIN = """
import joblib
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
features, kinds = load_wine(return_X_y=True)
joblib.dump(LogisticRegression(max_iter=10000).fit(features, kinds), "model.joblib")
"""
# What a new machine has when the first step begins.
_SCIKIT_LEARN = "scikit-learn>=1.5,<1.8"
_ROW = [14.2, 1.7, 2.4, 15.6, 127.0, 2.8, 3.1, 0.3, 2.3, 5.6, 1.0, 3.9, 1065.0]

_INSTALL_SECONDS = 900
_ANSWER_SECONDS = 120
_PAUSE_SECONDS = 0.02
_STOP_SECONDS = 20


class Kind(enum.Enum):
    """What somebody does in a step."""

    INSTALL = "types"
    WRITE = "writes"
    SERVE = "types and leaves running"
    ASK = "asks"


class Step(NamedTuple):
    """One thing that somebody does.

    Attributes:
        kind: What is done.
        text: The command, with {port} and {wheel} for what differs; of a file its content.
        file: The name of the file that is written.
    """

    kind: Kind
    text: str
    file: str = ""


class Tool(NamedTuple):
    """A way to serve the model.

    Attributes:
        title: What the table calls it.
        distribution: Of which the version is shown.
        steps: From the install to the question.
    """

    title: str
    distribution: str
    steps: tuple[Step, ...]


def _ask(path: str, body: object) -> Step:
    return Step(Kind.ASK, f"http://127.0.0.1:{{port}}{path} {json.dumps(body)}")


TOOLS = {
    "ours": Tool(
        "sagemaker_inference_lite",
        "sagemaker_inference_lite",
        (
            Step(Kind.INSTALL, "pip install '{wheel}[local]'"),
            Step(Kind.SERVE, "sagemaker-inference-lite serve model.joblib --port {port}"),
            _ask("/invocations", [_ROW]),
        ),
    ),
    "litserve": Tool(
        "LitServe",
        "litserve",
        (
            Step(Kind.INSTALL, "pip install litserve"),
            Step(
                Kind.WRITE,
                """
import joblib
import litserve


class Wine(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load("model.joblib")

    def decode_request(self, request):
        return request["rows"]

    def predict(self, rows):
        return self.model.predict(rows)

    def encode_response(self, kinds):
        return {"kinds": kinds.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Wine(), accelerator="cpu").run(port={port})
""",
                "server.py",
            ),
            Step(Kind.SERVE, "python server.py"),
            _ask("/predict", {"rows": [_ROW]}),
        ),
    ),
    "bentoml": Tool(
        "BentoML",
        "bentoml",
        (
            Step(Kind.INSTALL, "pip install bentoml"),
            Step(
                Kind.WRITE,
                """
import bentoml
import joblib


@bentoml.service
class Wine:
    def __init__(self) -> None:
        self.model = joblib.load("model.joblib")

    @bentoml.api
    def predict(self, rows: list) -> list:
        return self.model.predict(rows).tolist()
""",
                "service.py",
            ),
            Step(Kind.SERVE, "bentoml serve service:Wine --port {port}"),
            _ask("/predict", {"rows": [_ROW]}),
        ),
    ),
    "mlserver": Tool(
        "MLServer",
        "mlserver",
        (
            # Its workers do not start with a later uvloop, which pip would take.
            Step(Kind.INSTALL, "pip install mlserver mlserver-sklearn 'uvloop<0.22'"),
            Step(
                Kind.WRITE,
                json.dumps(
                    {
                        "name": "wine",
                        "implementation": "mlserver_sklearn.SKLearnModel",
                        "parameters": {"uri": "model.joblib"},
                    },
                    indent=4,
                ),
                "model-settings.json",
            ),
            Step(Kind.SERVE, "mlserver start ."),
            _ask(
                "/v2/models/wine/infer",
                {"inputs": [{"name": "rows", "shape": [1, len(_ROW)], "datatype": "FP64", "data": [_ROW]}]},
            ),
        ),
    ),
}
# MLServer takes its ports from the environment.
_PORT_VARIABLES = {"mlserver": ("MLSERVER_HTTP_PORT", "MLSERVER_GRPC_PORT", "MLSERVER_METRICS_PORT")}


class Journey(NamedTuple):
    """How one went.

    Attributes:
        installing: Seconds of the install.
        answering: Seconds from the server's start to the first answer.
        answer: What came.
        version: Of the tool.
    """

    installing: float
    answering: float
    answer: str
    version: str


class JourneyError(Exception):
    """A step failed; the message says which, and what was printed last."""


def lines_written(tool: Tool) -> int:
    """How many lines somebody writes into files."""
    return sum(len(step.text.strip().splitlines()) for step in tool.steps if step.kind is Kind.WRITE)


def travel(name: str, scratch: Path, wheel: Path) -> Journey:
    """Does all steps of a tool in a new environment and a new directory.

    Raises:
        JourneyError: A step failed.
    """
    tool, directory = TOOLS[name], scratch / "work"
    directory.mkdir()
    _run([sys.executable, "-m", "venv", str(scratch / "venv")], directory, os.environ, "making an environment")
    programs = scratch / "venv" / "bin"
    environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environ.pop("PYTHONPATH", None)
    _run(["pip", "install", "--quiet", _SCIKIT_LEARN], directory, environ, "installing scikit-learn")
    _run(["python", "-c", _TRAIN], directory, environ, "training")
    ports = [str(_free_port()) for _ in range(3)]
    environ.update(zip(_PORT_VARIABLES.get(name, ()), ports))
    filled = {"{port}": ports[0], "{wheel}": str(wheel)}
    installing, server, begun = 0.0, None, 0.0
    try:
        for step in tool.steps:
            text = step.text
            for mark, value in filled.items():
                text = text.replace(mark, value)
            if step.kind is Kind.INSTALL:
                start = time.monotonic()
                # Without its cache pip fetches what a new machine would.
                _run([*shlex.split(text), "--no-cache-dir", "--quiet"], directory, environ, text)
                installing = time.monotonic() - start
            elif step.kind is Kind.WRITE:
                (directory / step.file).write_text(text)
            elif step.kind is Kind.SERVE:
                begun = time.monotonic()
                server = _serve(text, directory, environ)
            else:
                assert server is not None
                answer = _answer(text, server, directory)
                answering = time.monotonic() - begun
    finally:
        if server is not None:
            _stop(server)
    return Journey(installing, answering, answer, version(scratch / "venv", tool.distribution))


def _run(command: Sequence[str], directory: Path, environ: Mapping[str, str], what: str) -> None:
    # The name is looked up on the PATH that is given, not on that of this process.
    done = subprocess.run(
        ["/usr/bin/env", *command],
        cwd=directory,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_INSTALL_SECONDS,
    )
    if done.returncode:
        raise JourneyError(f"{what} failed with status {done.returncode}: {done.stdout[-500:]}")


def _serve(command: str, directory: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(
            ["/usr/bin/env", *shlex.split(command)],
            cwd=directory,
            env=environ,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def _answer(question: str, server: subprocess.Popen[bytes], directory: Path) -> str:
    url, _, body = question.partition(" ")
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    deadline = time.monotonic() + _ANSWER_SECONDS
    reason: object = "nothing was asked"
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            reason = f"{error}: {error.read()[:200]!r}"
        except OSError as error:
            reason = error
        time.sleep(_PAUSE_SECONDS)
    raise JourneyError(f"no answer: {reason}; the log ends with {(directory / 'log').read_text()[-500:]!r}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(_STOP_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _free_port() -> int:
    """One that nobody listens on, below 32767, from which on Multi Model Server takes none."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def table(journeys: Mapping[str, Sequence[Journey]]) -> str:
    """Markdown: a row for each tool, with the medians of its journeys."""
    lines = [
        "| | steps | lines written | install, s | start to first answer, s |",
        "|---|---|---|---|---|",
    ]
    for name, found in journeys.items():
        tool = TOOLS[name]
        installing = statistics.median(each.installing for each in found)
        answering = statistics.median(each.answering for each in found)
        lines.append(
            f"| {tool.title} {found[0].version} | {len(tool.steps)} | {lines_written(tool)} "
            f"| {installing:.1f} | {answering:.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measures what the command line asks for; 1 where a tool could not be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_answer", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each tool is installed and asked")
    parser.add_argument("--only", action="append", choices=TOOLS, help="a tool to measure; may be repeated")
    arguments = parser.parse_args()
    names = arguments.only or list(TOOLS)
    journeys: dict[str, list[Journey]] = {}
    failed = 0
    try:
        wheel = build_wheel()
    except PrepareError as error:
        sys.exit(str(error))
    for number in range(arguments.rounds):
        for name in names:
            print(f"round {number + 1} of {arguments.rounds}: {TOOLS[name].title}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="first-answer-") as scratch:
                try:
                    journeys.setdefault(name, []).append(travel(name, Path(scratch), wheel))
                except JourneyError as error:
                    print(f"{TOOLS[name].title}: {error}", file=sys.stderr)
                    failed = 1
    print("; ".join(f"{name}: {fact}" for name, fact in machine.facts().items()))
    print(table({name: found for name, found in journeys.items() if found}))
    return failed


if __name__ == "__main__":
    sys.exit(main())
