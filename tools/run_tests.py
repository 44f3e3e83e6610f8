# SPDX-License-Identifier: Apache-2.0
"""Runs the tests against the installed wheel.

    python tools/run_tests.py [ARGUMENT ...]            on the interpreter that runs this, under coverage
    python tools/run_tests.py --all [ARGUMENT ...]      on every Python served that is found on this machine, without
    python tools/run_tests.py --frameworks [ARGUMENT ...]  those of tests/frameworks/, with the libraries they need
    python tools/run_tests.py --container [ARGUMENT ...]  those of tests/container/, with a Docker engine of their own

Further arguments go to pytest. The wheel is built from the tree as it is now and installed in a virtual environment
of its own for each version of Python; pytest is started where it cannot see the tree.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import engine
from environments import ENVIRONMENTS, ROOT, Environment, PrepareError, download, prepare, version_of

VERSIONS = tuple(f"3.{minor}" for minor in range(9, 14))
# Debian's releases that images are built on, and their Pythons.
BASES = {"bookworm": "3.11", "trixie": "3.13"}
# What stands for images that others have made, on one of them.
FRAMEWORK_BASE = "bookworm"
FRAMEWORKS = {
    "SCIKIT_LEARN": ("scikit-learn>=1.0",),
    "XGBOOST": ("xgboost-cpu>=2.1",),
    "LIGHTGBM": ("lightgbm>=4",),
    "ONNX": ("onnxruntime>=1.16",),
    "HUGGING_FACE": (
        "sagemaker-huggingface-inference-toolkit>=2.6.0",
        "transformers>=4.57,<5",
        "setuptools>=68,<81",
        "torch>=2.13.0,<2.13.1",
    ),
}
CONFIGURATION = ROOT / "pyproject.toml"


def run_suite(
    python: str,
    arguments: Sequence[str],
    measured: bool,
    purpose: str = "test",
    more_variables: Mapping[str, str] | None = None,
) -> bool:
    """Runs the tests on one interpreter and, if measured, prints what they cover; whether all passed.

    Args:
        purpose: "test", or another one that has its tests in a directory of its name.
    """
    environment = prepare(purpose, python)
    arguments = _from_root(arguments, ROOT / "tests" if purpose == "test" else ROOT / "tests" / purpose)
    # A scratch directory: a child process that looks for modules in its own directory must not find the tree.
    scratch = environment.directory / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    variables = {
        **environment.variables(),
        **(more_variables or {}),
        "COVERAGE_FILE": str(scratch / ".coverage"),
        "INFERENCE_LITE_TEST_INSTALLED": "1",
        "INFERENCE_LITE_TEST_WHEEL": str(environment.wheel),
    }
    pytest = [str(environment.programs / "pytest"), "-c", str(CONFIGURATION), "--rootdir", str(ROOT)]
    if purpose == "test":
        # Most tests wait for processes that start. Those of a file stay together: they share a server.
        pytest += ["--numprocesses", str(len(os.sched_getaffinity(0))), "--dist", "loadfile"]
    if not measured:
        python = str(environment.programs / "python")
        return subprocess.run([python, *pytest, *arguments], cwd=scratch, env=variables).returncode == 0
    passed = _coverage(environment, variables, scratch, "run", *pytest, *arguments)
    if passed:
        _report(environment, variables)
    return passed


def _report(environment: Environment, variables: dict[str, str]) -> None:
    _coverage(environment, variables, ROOT, "combine", "--quiet")
    _coverage(environment, variables, ROOT, "report")


def _coverage(environment: Environment, variables: dict[str, str], cwd: Path, verb: str, *arguments: str) -> bool:
    # The script rather than -m: that would put the working directory on the path of all imports.
    programs = environment.programs
    command = [str(programs / "python"), str(programs / "coverage"), verb, f"--rcfile={CONFIGURATION}", *arguments]
    return subprocess.run(command, cwd=cwd, env=variables).returncode == 0


def _from_root(arguments: Sequence[str], tests: Path) -> list[str]:
    """The arguments with paths made absolute, and the directory of tests where no path is among them."""
    found = [str(ROOT / each) if (ROOT / each.split("::")[0]).exists() else each for each in arguments]
    return found if any(each.startswith(str(ROOT)) for each in found) else [*found, str(tests)]


def find_python(version: str) -> str | None:
    """An interpreter of a version that really runs: this one, one on the PATH, or the newest of pyenv's."""
    for candidate in _candidates(version):
        try:
            if version_of(candidate) == version:
                return candidate
        except PrepareError:
            continue  # pyenv puts programs on the PATH for versions that are not switched on
    return None


def _candidates(version: str) -> Iterator[str]:
    yield sys.executable
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    installed = pyenv.glob(f"versions/{version}.*/bin/python")
    yield from map(str, sorted(installed, key=lambda path: _patch_number(path.parents[1].name), reverse=True))


def _patch_number(version: str) -> int:
    last = version.rsplit(".", 1)[-1]
    return int(last) if last.isdigit() else -1


def run_container(arguments: Sequence[str]) -> bool:
    """Runs tests/container/ on an engine that it starts, and ends afterwards; whether all passed."""
    engine.check()
    images = ENVIRONMENTS / "images"
    with ThreadPoolExecutor() as pool:
        program = pool.submit(engine.buildx, images / "docker-buildx")
        list(pool.map(lambda suite: engine.debian(suite, images), BASES))
    variables = {"INFERENCE_LITE_TEST_IMAGES": str(images), "INFERENCE_LITE_TEST_BUILDX": str(program.result())}
    wanted: list[tuple[str, str, tuple[str, ...]]] = [(suite.upper(), suite, ()) for suite in BASES]
    wanted += [(name, FRAMEWORK_BASE, requirements) for name, requirements in FRAMEWORKS.items()]
    for name, suite, requirements in wanted:
        python = find_python(BASES[suite])
        if python is None:
            raise PrepareError(f"Debian {suite} has Python {BASES[suite]}: install one to fetch its wheels with.")
        variables[f"INFERENCE_LITE_TEST_WHEELS_{name}"] = str(download(python, *requirements))
    with tempfile.TemporaryDirectory(prefix="engine-") as scratch, engine.engine(Path(scratch, "docker")) as running:
        variables["INFERENCE_LITE_TEST_ENGINE"] = running.host
        variables["INFERENCE_LITE_TEST_PROXY_PORT"] = str(running.proxy_port)
        return run_suite(sys.executable, arguments, False, "container", variables)


def run_all(arguments: Sequence[str], skip: Sequence[str]) -> bool:
    """Runs the tests on every version that is found, and says how each went; whether none failed."""
    outcomes: dict[str, str] = {}
    for version in VERSIONS:
        python = find_python(version)
        if version in skip:
            outcomes[version] = "skipped, as asked"
        elif python is None:
            outcomes[version] = "not found"
        else:
            outcomes[version] = _outcome(version, python, ["-m", "not once", *arguments])
    print("\n".join(["", *(f"Python {version:<5} {outcome}" for version, outcome in outcomes.items())]))
    return not any(outcome.startswith("FAILED") for outcome in outcomes.values())


def _outcome(version: str, python: str, arguments: Sequence[str]) -> str:
    print(f"\n== Python {version}: {python}", flush=True)
    start = time.monotonic()
    try:
        passed = run_suite(python, arguments, measured=False)
    except PrepareError as error:
        print(error, file=sys.stderr)
        passed = False
    return f"{'passed' if passed else 'FAILED'} in {time.monotonic() - start:.0f} s"


def main() -> int:
    """Runs the tests as the command line says."""
    parser = argparse.ArgumentParser(description="Run the tests against the installed wheel.")
    parser.add_argument("--all", action="store_true", help="on every Python served that is found")
    parser.add_argument("--frameworks", action="store_true", help="those of tests/frameworks/, without coverage")
    parser.add_argument("--container", action="store_true", help="those of tests/container/, on an engine of their own")
    parser.add_argument("--skip", action="append", default=[], metavar="VERSION", help="leave a version out")
    options, arguments = parser.parse_known_args()
    if options.all:
        return 0 if run_all(arguments, options.skip) else 1
    try:
        if options.container:
            return 0 if run_container(arguments) else 1
        purpose = "frameworks" if options.frameworks else "test"
        return 0 if run_suite(sys.executable, arguments, not options.frameworks, purpose) else 1
    except PrepareError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    sys.exit(main())
