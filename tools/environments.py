# SPDX-License-Identifier: Apache-2.0
"""The project's own virtual environments: one for each purpose and Python, under .venv/.

    python tools/environments.py PURPOSE [COMMAND ...]

prepares an environment for the interpreter that runs this and runs a command in it. An environment that is up to
date is left as it is, so a second run starts at once. Needs nothing but the standard library of Python 3.9.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".venv"
PACKAGE = "sagemaker_inference_lite"
# What a wheel is made of beside the package itself.
BUILD_FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
MINIMUM = (3, 9)


class Purpose(NamedTuple):
    """What an environment holds.

    Attributes:
        extras: The package's extras.
        installs: "wheel": the package as it is now. "tree": the working tree itself. "once": the package as it was
            when the requirements last changed, for tools that read the tree anyway. "others": not the package, but
            only what others names.
        others: What else is installed, as pip's requirements.
    """

    extras: tuple[str, ...]
    installs: str
    others: tuple[str, ...] = ()


PURPOSES = {
    "demo": Purpose(("local", "demo"), "wheel"),
    "test": Purpose(("jre", "test"), "wheel"),
    "frameworks": Purpose(("jre", "test", "frameworks"), "wheel"),
    "container": Purpose(("test", "container"), "wheel"),
    "check": Purpose(("check", "test"), "once"),
    "dev": Purpose(("local", "demo", "test", "check"), "tree"),
    "docs": Purpose(("docs",), "wheel"),
    "bench-codecs": Purpose(("fast",), "wheel"),
    # It imports pkg_resources, which a later setuptools lacks.
    "bench-peer": Purpose((), "others", ("sagemaker-inference==1.10.1", "setuptools<81")),
}


class PrepareError(Exception):
    """An environment cannot be made; the message is for the person at the terminal."""


class Environment(NamedTuple):
    """A prepared environment.

    Attributes:
        directory: Where it is.
        wheel: The package's wheel, built from the tree as it is now; None where none is installed.
    """

    directory: Path
    wheel: Path | None

    @property
    def programs(self) -> Path:
        """The directory of its interpreter and commands."""
        return self.directory / "bin"

    def variables(self) -> dict[str, str]:
        """The environment variables to run something in it."""
        variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
        return {**variables, "PATH": f"{self.programs}{os.pathsep}{variables.get('PATH', os.defpath)}"}


def prepare(name: str, python: str = sys.executable) -> Environment:
    """Makes an environment, or brings it up to date.

    Args:
        name: One of PURPOSES.
        python: The interpreter that it is for.

    Raises:
        PrepareError: It cannot be made.
    """
    purpose, version = PURPOSES[name], version_of(python)
    if tuple(map(int, version.split("."))) < MINIMUM:
        raise PrepareError(f"{python} is Python {version}; 3.9 or newer is needed: make PYTHON=...")
    directory = ENVIRONMENTS / f"{name}-py{version}"
    with _locked():
        _create(directory, python)
        wheel = _wheel(directory) if purpose.installs == "wheel" else None
        _install(directory, purpose, wheel)
    return Environment(directory, wheel)


def download(python: str, *others: str) -> Path:
    """A directory with wheels for an interpreter, for where there is no package index: downloaded, or built.

    Args:
        others: Requirements; none for the package itself, as the tree is now, with its extra ``jre``.

    Raises:
        PrepareError: They cannot be had.
    """
    directory = ENVIRONMENTS / f"wheels-py{version_of(python)}"
    with _locked():
        _create(directory, python)
        wheel = _wheel(directory)
        wanted = others or (f"{wheel}[jre]",)
        name = hashlib.sha256("\n".join([_digest([ROOT / "setup.py"]), *wanted]).encode()).hexdigest()[:16]
        target = directory / "wheels" / name
        if not target.is_dir():
            unfinished = target.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            _pip(directory, "wheel", "--wheel-dir", str(unfinished), *wanted)
            unfinished.rename(target)
    return target


def version_of(python: str) -> str:
    """The version of an interpreter such as "3.11"; PrepareError where it does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise PrepareError(f"{python} does not run: {error}") from None


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Keeps others that prepare environments of this tree waiting."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _create(directory: Path, python: str) -> None:
    with contextlib.suppress(PrepareError):
        version_of(str(directory / "bin" / "python"))
        return
    # It is not there, or its interpreter has moved or was cut short while it was made.
    shutil.rmtree(directory, ignore_errors=True)
    hint = "Debian and Ubuntu have the venv module in a package of its own: apt-get install python3-venv"
    run([python, "-m", "venv", str(directory)], f"making {directory.name}", hint)


def _install(directory: Path, purpose: Purpose, wheel: Path | None) -> None:
    """Installs what has changed since the stamp was written: everything, or only the package itself."""
    stamp = directory / "installed.json"
    wanted = {"requirements": _digest([ROOT / "setup.py"]), "wheel": wheel.parent.name if wheel else None}
    found = json.loads(stamp.read_text()) if stamp.exists() else {}
    if found == wanted:
        return
    stamp.unlink(missing_ok=True)
    if found.get("requirements") != wanted["requirements"]:
        _install_requirements(directory, purpose, wheel)
    if wheel:
        _pip(directory, "install", "--no-deps", "--force-reinstall", str(wheel))
    stamp.write_text(json.dumps(wanted))


def _install_requirements(directory: Path, purpose: Purpose, wheel: Path | None) -> None:
    extras = "[" + ",".join(purpose.extras) + "]"
    if purpose.installs == "others":
        _pip(directory, "install", *purpose.others)
    elif purpose.installs == "tree":
        _pip(directory, "install", "--editable", f"{ROOT}{extras}", *purpose.others)
    else:
        _pip(directory, "install", f"{wheel or _wheel(directory)}{extras}", *purpose.others)


def _wheel(directory: Path) -> Path:
    """The wheel of the tree as it is now, built unless it has been.

    It is built from a copy: setuptools leaves a build/ in the tree, and packs what it finds there from earlier.
    """
    made = ENVIRONMENTS / "wheels" / _digest(_sources())
    if not list(made.glob("*.whl")):
        shutil.rmtree(made.parent, ignore_errors=True)
        with tempfile.TemporaryDirectory() as copy:
            for file in _sources():
                target = Path(copy) / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, target)
            _pip(directory, "wheel", "--no-deps", "--wheel-dir", str(made), copy)
    return next(made.glob("*.whl"))


def _sources() -> list[Path]:
    files = [file for file in (ROOT / PACKAGE).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    return sorted(files) + [ROOT / name for name in BUILD_FILES]


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _pip(directory: Path, *arguments: str) -> None:
    command = [str(directory / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    run([*command, *arguments], f"{directory.name}: pip {arguments[0]}")


def run(
    command: Sequence[str],
    what: str,
    hint: str = "",
    limit_seconds: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Runs a command whose output nobody wants to read unless it fails.

    Args:
        what: What it does, for the person at the terminal.
        hint: What to do where it fails.
        limit_seconds: The longest that it may take.
        variables: Its environment, where that is another.

    Raises:
        PrepareError: It failed, or took too long.
    """
    print(f"{what} ...", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit_seconds,
            env=variables,
        )
    except subprocess.TimeoutExpired:
        raise PrepareError(f"{what} did not end within {limit_seconds:.0f} seconds") from None
    if done.returncode:
        lines = [done.stdout.rstrip(), f"{what} failed with status {done.returncode}", hint]
        raise PrepareError("\n".join(filter(None, lines)))


def main() -> int:
    """Prepares an environment and turns into the command, if there is one."""
    parser = argparse.ArgumentParser(description="Prepare a virtual environment and run a command in it.")
    parser.add_argument("purpose", choices=PURPOSES)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        environment = prepare(arguments.purpose)
    except PrepareError as error:
        parser.exit(1, f"{error}\n")
    if not arguments.command:
        print(environment.directory)
        return 0
    # In place of this process, so that an interrupt reaches the command and nothing else.
    program = environment.programs / arguments.command[0]
    os.execve(program, [str(program), *arguments.command[1:]], environment.variables())


if __name__ == "__main__":
    sys.exit(main())
