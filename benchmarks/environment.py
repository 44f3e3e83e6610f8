# SPDX-License-Identifier: Apache-2.0
"""The virtual environments that peers run in: one for each, under .venv/bench-PEER-pyX.Y/, made by pip."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"

sys.path.append(str(ROOT / "tools"))
import environments  # noqa: E402  # it is found in tools/ alone
from environments import PrepareError  # noqa: E402

__all__ = ["PrepareError", "build", "build_ours", "build_wheel", "site_packages", "version"]

_BUILD_SECONDS = 1200


def build_ours(python: str = sys.executable) -> Path:
    """This library's environment, with the wheel of the tree as it is now, prepared for a fast start.

    Raises:
        PrepareError: It cannot be made.
    """
    environments.PURPOSES["bench-ours"] = environments.Purpose(("jre", "demo"), "wheel")
    directory = environments.prepare("bench-ours", python).directory
    # As the build of an image does it.
    _run([str(directory / "bin" / "sagemaker-inference-lite"), "prepare"], f"{directory.name}: prepare")
    return directory


def build_wheel(python: str = sys.executable) -> Path:
    """The wheel of the tree as it is now.

    Raises:
        PrepareError: It cannot be made.
    """
    wheel = environments.prepare("demo", python).wheel
    assert wheel is not None  # that environment has one
    return wheel


def build(name: str, python: str = sys.executable) -> Path:
    """The environment of requirements/NAME.txt and, where there is one, requirements/NAME.no-deps.txt.

    One that is up to date with those files is left as it is.

    Raises:
        PrepareError: It cannot be made; the message is what pip said last.
    """
    directory = environments.ENVIRONMENTS / f"bench-{name}-py{environments.version_of(python)}"
    stamp, wanted = directory / "installed.txt", _digest(name)
    if stamp.is_file() and stamp.read_text() == wanted:
        return directory
    environments.ENVIRONMENTS.mkdir(exist_ok=True)
    _run([python, "-m", "venv", "--clear", str(directory)], f"making {directory.name}")
    for file, options in _files(name):
        pip = [str(directory / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
        _run([*pip, *options, "--requirement", str(file)], f"{directory.name}: pip install -r {file.name}")
    stamp.write_text(wanted)
    return directory


def _files(name: str) -> list[tuple[Path, list[str]]]:
    files = [(REQUIREMENTS / f"{name}.txt", []), (REQUIREMENTS / f"{name}.no-deps.txt", ["--no-deps"])]
    return [(file, options) for file, options in files if file.is_file()]


def _digest(name: str) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file, _ in _files(name))).hexdigest()


def _run(command: list[str], what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_BUILD_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PrepareError(f"{what} failed: {error}") from None
    if done.returncode:
        errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR: ")]
        last = (errors or done.stdout.splitlines() or ["it printed nothing"])[-1]
        raise PrepareError(f"{what} failed with status {done.returncode}: {last}")


def site_packages(directory: Path) -> Path:
    """Where an environment has its packages."""
    return next(directory.glob("lib/python*/site-packages"))


def version(directory: Path, distribution: str) -> str:
    """The version of a distribution that is installed in an environment; "?" where it is not."""
    found = distributions(name=distribution, path=[str(site_packages(directory))])
    return next((each.version for each in found), "?")
