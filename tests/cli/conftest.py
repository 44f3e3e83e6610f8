# SPDX-License-Identifier: Apache-2.0
"""Commands that run, for the tests, and models for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from commands import Running

Start = Callable[..., Running]

PROGRAM = """
def model_fn(model_dir):
    return {name!r}

def predict_fn(data, model):
    return {{"by": model, "got": data}}
"""


def coded(directory: Path, name: str, program: str = PROGRAM) -> Path:
    """A model's directory with code of its own."""
    (directory / name / "code").mkdir(parents=True)
    (directory / name / "code" / "inference.py").write_text(program.format(name=name))
    return directory / name


@pytest.fixture(name="coded")
def _coded() -> Callable[..., Path]:
    """Makes models' directories with code of their own."""
    return coded


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts commands; ends those that the test leaves running."""
    started: list[Running] = []

    def starter(*arguments: object, terminal: bool = False, **variables: str) -> Running:
        started.append(Running([str(each) for each in arguments], tmp_path, terminal, **variables))
        return started[-1]

    yield starter
    for each in started:
        each.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of two models, left and right, and of one that cannot be loaded; it must stop cleanly at the end."""
    directory = tmp_path_factory.mktemp("served")
    for name in ("left", "right"):
        coded(directory / "models", name)
    coded(directory / "models", "wrong", "import nothing_of_this_name\n")
    server = Running(["serve", "models"], directory)
    try:
        server.until("Ctrl-C stops it\n\n.*\n\n")
        yield server
        server.process.terminate()
        assert server.end() == 0, server.text
        assert list(server.temporary.iterdir()) == []
    finally:
        server.kill()
