# SPDX-License-Identifier: Apache-2.0
"""A model's requirements.txt: what it asks for, what pip makes of it, and what is said when that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from packages import ask_for, make_sdist, make_wheel
from running_server import all_gone, eventually

import sagemaker_inference_lite
from sagemaker_inference_lite.errors import ModelError, RequirementsError
from sagemaker_inference_lite.requirements import installer, of_one_model, overlay, pip
from sagemaker_inference_lite.requirements.wanted import Requirements, find, to_install
from sagemaker_inference_lite.runtime.processes import kill_group
from sagemaker_inference_lite.settings import Settings

# -- What a model asks for, and whether it may -------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n \n", "# nothing\n\n  # at all", "\ufeff# nothing"])
def test_a_file_that_asks_for_nothing(tmp_path: Path, text: str) -> None:
    """Without a requirements.txt, or with one of comments, there is nothing to install and nothing to refuse."""
    assert find(tmp_path) is None
    ask_for(tmp_path, text)
    assert find(tmp_path) is None
    assert to_install(tmp_path, Settings(install_requirements=False)) is None


def test_a_file_that_asks_for_something(tmp_path: Path) -> None:
    """The file is found with the wheels beside it, under absolute paths."""
    wheels = ask_for(tmp_path, "# for the colours\nshade\n")
    assert find(tmp_path) == Requirements(tmp_path / "code" / "requirements.txt", wheels)
    wheels.rmdir()
    assert find(tmp_path) == Requirements(tmp_path / "code" / "requirements.txt", None)


def test_a_file_instead_of_the_code_directory(tmp_path: Path) -> None:
    """Where code is no directory there are no requirements."""
    (tmp_path / "code").write_text("")
    assert find(tmp_path) is None


def test_a_directory_of_that_name(tmp_path: Path) -> None:
    """What is called requirements.txt and cannot be read is an error that names it."""
    (tmp_path / "code" / "requirements.txt").mkdir(parents=True)
    with pytest.raises(RequirementsError, match=r"code/requirements\.txt cannot be read: Is a directory\.$"):
        find(tmp_path)


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    """A link that leads nowhere is no missing file: somebody meant to ask for something."""
    ask_for(tmp_path, "")
    (tmp_path / "code" / "requirements.txt").unlink()
    (tmp_path / "code" / "requirements.txt").symlink_to("elsewhere.txt")
    with pytest.raises(RequirementsError, match="a link to nowhere"):
        find(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_never_ends_is_not_read(tmp_path: Path, kind: str) -> None:
    """A pipe that nobody writes to, or a link to a device, is an error rather than a start that never ends."""
    ask_for(tmp_path, "")
    path = tmp_path / "code" / "requirements.txt"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(RequirementsError, match="it is a pipe or a device, and no file"):
        find(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """A file without the permission to read it is an error that names it."""
    ask_for(tmp_path, "shade\n")
    (tmp_path / "code" / "requirements.txt").chmod(0)
    with pytest.raises(RequirementsError, match="cannot be read: Permission denied"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("multi_model", "setting", "refused"),
    [
        (False, None, None),
        (True, None, "with several models none are installed unless SAGEMAKER_INSTALL_REQUIREMENTS=true"),
        (False, True, None),
        (True, True, None),
        (False, False, "SAGEMAKER_INSTALL_REQUIREMENTS=false forbids"),
        (True, False, "SAGEMAKER_INSTALL_REQUIREMENTS=false forbids"),
    ],
)
def test_who_may_install(tmp_path: Path, multi_model: bool, setting: bool | None, refused: str | None) -> None:
    """Unset, one model may and several may not; set, it holds for both. The refusal names the file and the setting."""
    ask_for(tmp_path, "shade\n")
    settings = Settings(multi_model=multi_model, install_requirements=setting)
    if refused is None:
        assert to_install(tmp_path, settings) == find(tmp_path)
        return
    with pytest.raises(RequirementsError, match=refused) as caught:
        to_install(tmp_path, settings)
    assert str(caught.value).startswith(f"{tmp_path / 'code' / 'requirements.txt'} asks for packages")


# -- How pip is called -------------------------------------------------------------------------------------------------

FILE = Path("/m/code/requirements.txt")
FROM_INDEX = Requirements(FILE, None)
FROM_WHEELS = Requirements(FILE, Path("/m/code/wheels"))


def test_wheels_are_all_that_is_looked_at() -> None:
    """With wheels of the model's own pip gets no index, from no variable and from no file of its own."""
    environ = {"PIP_INDEX_URL": "a", "PIP_EXTRA_INDEX_URL": "b", "PIP_find_links": "c", "PIP_TIMEOUT": "9", "A": "B"}
    assert "--no-index" in pip.command(Path("/python"), FROM_WHEELS)
    kept = pip.environment(environ, FROM_WHEELS, Path("/t"))
    assert kept == {
        "A": "B",
        "TMPDIR": "/t",
        "PIP_TIMEOUT": "9",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_CACHE_DIR": "1",
    }
    assert "--no-index" not in pip.command(Path("/python"), FROM_INDEX)
    assert pip.environment(environ, FROM_INDEX, Path("/t"))["PIP_INDEX_URL"] == "a"


def test_where_to_is_not_pips_to_say() -> None:
    """Variables that send packages elsewhere are left out; a cache that somebody set up is used."""
    elsewhere = dict.fromkeys(["PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON"], "x")
    kept = pip.environment({**elsewhere, "PIP_CACHE_DIR": "/cache"}, FROM_INDEX, Path("/t"))
    assert kept == {"TMPDIR": "/t", "PIP_CACHE_DIR": "/cache"}


# -- What pip says -----------------------------------------------------------------------------------------------------

NOT_FOUND = """
Looking in indexes: https://index.example/simple
ERROR: Could not find a version that satisfies the requirement nowhere==3 (from versions: 1.0, 2.0)
ERROR: No matching distribution found for nowhere==3
"""
UNREACHABLE = """
WARNING: Retrying (Retry(total=0, ...)) after connection broken by 'NewConnectionError('no network')': /simple/shade/
ERROR: Could not find a version that satisfies the requirement shade (from versions: none)
ERROR: No matching distribution found for shade
"""
CONFLICT = """
ERROR: Cannot install -r requirements.txt (line 1) and b because these package versions have conflicting dependencies.

The conflict is caused by:
    a 1.0 depends on shade==1.0
    b 1.0 depends on shade==2.0

To fix this you could try to:
1. loosen the range of package versions you've specified

ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/
"""
OTHER_HASH = """
Collecting shade==1.0
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, ...
    shade==1.0 from file:///m/code/wheels/shade-1.0-py3-none-any.whl (from -r requirements.txt (line 1)):
        Expected sha256 00
             Got        13
"""
NOT_PINNED = """
ERROR: In --require-hashes mode, all requirements must have their versions pinned with ==. These do not:
    shade from file:///m/code/wheels/shade-1.0-py3-none-any.whl (from -r requirements.txt (line 1))
"""
OLD_PIP_BAD_ZIP = """
Processing ./wheels/shade-1.0-py3-none-any.whl
ERROR: Exception:
Traceback (most recent call last):
  File "zipfile.py", line 1369, in _RealGetContents
zipfile.BadZipFile: File is not a zip file
"""
OLD_PIP_BUILD = """
Processing ./wheels/broken-1.0.tar.gz
  ERROR: Command errored out with exit status 1:
   command: /python -c 'import setuptools'
  Complete output (2 lines):
  RuntimeError: no compiler here
  ----------------------------------------
WARNING: Discarding file:///m/code/wheels/broken-1.0.tar.gz. Command errored out with exit status 1
ERROR: No matching distribution found for broken
"""
METADATA = """
Collecting broken
  error: subprocess-exited-with-error

  \u00d7 python setup.py egg_info did not run successfully.
  \u2502 exit code: 1
  \u2570\u2500> [2 lines of output]
      Traceback (most recent call last):
      RuntimeError: no compiler here
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
error: metadata-generation-failed
"""
WHEEL_BUILD = """
Collecting fine
Building wheels for collected packages: broken
  Building wheel for broken (pyproject.toml): started
  Building wheel for broken (pyproject.toml): finished with status 'error'
  \u00d7 Building wheel for broken (pyproject.toml) did not run successfully.
  \u2570\u2500> [1 lines of output]
      gcc: not found
      [end of output]
  ERROR: Failed building wheel for broken
Failed to build broken
ERROR: Could not build wheels for broken, which is required to install pyproject.toml-based projects
"""
NO_SPACE = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"

REASONS = {
    "not found": (NOT_FOUND, FROM_INDEX, "requirement nowhere==3 (from versions: 1.0, 2.0). The log"),
    "not in wheels": (NOT_FOUND, FROM_WHEELS, "Only /m/code/wheels is looked in: it must hold all that is needed, for"),
    "unreachable": (UNREACHABLE, FROM_INDEX, "was not reached (NewConnectionError): without a network, put the wheels"),
    "named and unreachable": (UNREACHABLE, FROM_WHEELS, "The package index was not reached (NewConnectionError)"),
    "conflict": (CONFLICT, FROM_INDEX, "exclude each other: a 1.0 depends on shade==1.0, b 1.0 depends on shade==2.0."),
    "hash": (OTHER_HASH, FROM_WHEELS, "shade==1.0 has another hash than the file says. The log"),
    "not pinned": (NOT_PINNED, FROM_INDEX, "These do not: shade from file:///m/code/wheels/"),
    "corrupt, pip 21": (OLD_PIP_BAD_ZIP, FROM_INDEX, "shade-1.0-py3-none-any.whl: zipfile.BadZipFile: File is not a"),
    "build, pip 21": (OLD_PIP_BUILD, FROM_INDEX, "broken-1.0.tar.gz cannot be built: RuntimeError: no compiler here."),
    "metadata": (METADATA, FROM_INDEX, "broken cannot be built: RuntimeError: no compiler here."),
    "build": (WHEEL_BUILD, FROM_INDEX, "broken cannot be built: gcc: not found."),
    "no space": (NO_SPACE, FROM_INDEX, "No space left on device. The packages are installed under TMPDIR"),
    "unknown": ("It\nwent wrong.\n\n", FROM_INDEX, "went wrong. The log has all that pip said."),
    "nothing": ("", FROM_INDEX, "pip said nothing."),
}


@pytest.mark.parametrize("case", REASONS)
def test_the_reason_names_the_package(case: str) -> None:
    """Of all that a release of pip prints, the sentence that names the package and says what is wrong with it."""
    text, requirements, expected = REASONS[case]
    assert expected in pip.reason_of(text.splitlines(), requirements)


def test_the_reason_has_an_end() -> None:
    """A line of any length becomes a sentence that can be read."""
    assert len(pip.reason_of(["ERROR: " + "x" * 100_000], FROM_INDEX)) < 2000


# -- The installer, with the real pip ----------------------------------------------------------------------------------


class Installation:
    """A run of the installer's program for the model in a directory."""

    def __init__(self, model_dir: Path, python: str = sys.executable, limit: int | None = None, **environ: str) -> None:
        found = find(model_dir)
        assert found is not None
        self.requirements = found
        self.directory = model_dir / "packages"
        self.log = model_dir / "log"
        self._reader, writer = os.pipe()
        argv = installer.command(found, self.directory, writer, limit)
        with self.log.open("wb") as log, open(writer, "wb"):
            self.process = subprocess.Popen(
                [python, *argv[1:]],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[writer],
                env={**os.environ, **environ},
                start_new_session=True,
            )

    def failure(self, seconds: float = 60) -> str:
        """Wait for its end; what it says of it, nothing where all is installed."""
        returncode = self.process.wait(seconds)
        with open(self._reader, "rb") as reasons:
            return str(installer.failure(self.requirements, returncode, reasons.read()) or "")

    def imported(self, statement: str) -> str:
        """What a statement prints in a process that has the packages."""
        program = (
            "import sys; from pathlib import Path; from sagemaker_inference_lite.requirements import overlay; "
            f"overlay.activate(Path({str(self.directory)!r})); {statement}"
        )
        return subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=self.directory
        ).stdout.strip()

    def group(self) -> list[psutil.Process]:
        """Its process and all that it has started."""
        return [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]

    def end(self) -> None:
        """End it and what it has started and left behind, as whoever starts it does."""
        kill_group(self.process.pid)
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    """Starts the installer for the model in tmp_path."""
    started: list[Installation] = []

    def starter(python: str = sys.executable, limit: int | None = None, **environ: str) -> Installation:
        started.append(Installation(tmp_path, python, limit, **environ))
        return started[-1]

    yield starter
    for each in started:
        each.end()


def test_packages_on_top_of_the_images(tmp_path: Path, start: Callable[..., Installation]) -> None:
    """What the image has is not installed again, another version of it comes first; the image is left as it is.

    And what lies beside requirements.txt, the model's code, is not in pip's way, whatever its name.
    """
    wheels = ask_for(tmp_path, "numpy\nretrying==99.0\nshade\n./wheels/tint-1.0-py3-none-any.whl\n")
    for name, version in (("retrying", "99.0"), ("shade", "1.0"), ("tint", "1.0")):
        make_wheel(wheels, name, version)
    for name in ("typing", "pip", "runpy"):
        (tmp_path / "code" / f"{name}.py").write_text("raise ImportError('the model has one of its own')\n")
    installation = start(PIP_TARGET=str(tmp_path / "elsewhere"), PIP_INDEX_URL="http://127.0.0.1:9/")
    assert installation.failure() == "", installation.log.read_text()
    assert "Requirement already satisfied: numpy" in installation.log.read_text()
    names = {path.name for path in overlay.site_packages(installation.directory).glob("*.py")}
    assert names == {"retrying.py", "shade.py", "tint.py"}
    seen = installation.imported(
        "import retrying, shade, numpy, importlib.metadata as m; "
        "print(retrying.VERSION, shade.VERSION, m.version('retrying'), retrying.__file__)"
    )
    assert seen == f"99.0 1.0 99.0 {overlay.site_packages(installation.directory) / 'retrying.py'}"
    import retrying

    assert not hasattr(retrying, "VERSION")
    assert not (tmp_path / "elsewhere").exists()


def test_the_overlays_place_on_the_path(tmp_path: Path, start: Callable[..., Installation]) -> None:
    """Before the image's packages and behind the standard library; files *.pth of the packages work."""
    wheels = ask_for(tmp_path, "shade\n")
    make_wheel(wheels, "shade", "1.0")
    installation = start()
    assert installation.failure() == ""
    packages = overlay.site_packages(installation.directory)
    (packages / "more").mkdir()
    (packages / "more.pth").write_text("more\n")
    path = json.loads(installation.imported("import json; print(json.dumps(sys.path))"))
    own = [str(packages), str(packages / "more")]
    place = path.index(own[0])
    assert path[place : place + 2] == own
    import numpy

    assert path.index(os.path.dirname(os.__file__)) < place < path.index(str(Path(numpy.__file__).parents[1]))


def broken_wheel(wheels: Path) -> None:
    """A wheel whose download ended early."""
    path = make_wheel(wheels, "shade", "1.0")
    path.write_bytes(path.read_bytes()[:100])


def conflicting_wheels(wheels: Path) -> None:
    """Two packages that need two versions of a third."""
    for name, version in (("amber", "1.0"), ("blue", "2.0")):
        make_wheel(wheels, name, "1.0", requires=[f"shade=={version}"])
        make_wheel(wheels, "shade", version)


def failing_build(wheels: Path) -> None:
    """A source distribution that does not build."""
    make_sdist(wheels, "broken", "1.0", "raise RuntimeError('no compiler here')")


FAILURES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "not there": (lambda _: None, "nowhere==3\n", "requirement nowhere==3"),
    "needed and not there": (lambda wheels: make_wheel(wheels, "amber", "1", ["absent>=2"]), "amber\n", "absent>=2"),
    "corrupt": (broken_wheel, "shade\n", "shade-1.0-py3-none-any.whl"),
    "conflict": (conflicting_wheels, "amber\nblue\n", "blue 1.0 depends on shade==2.0"),
    "build": (failing_build, "broken\n", "cannot be built: RuntimeError: no compiler here."),
    "no requirement": (lambda _: None, "foo bar baz\n", "Invalid requirement: 'foo bar baz'"),
    "no path": (lambda _: None, "./nowhere\n", "Invalid requirement: './nowhere'"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_names_the_package(tmp_path: Path, start: Callable[..., Installation], case: str) -> None:
    """Whatever this release of pip says, the error names the file and the package; pip's output is in the log."""
    make, text, expected = FAILURES[case]
    make(ask_for(tmp_path, text))
    installation = start()
    failure = installation.failure()
    assert failure.startswith(f"{tmp_path / 'code' / 'requirements.txt'} cannot be installed: ")
    assert expected in failure
    assert case != "build" or "broken" in failure.partition("cannot be built")[0]
    assert "error: " in installation.log.read_text().lower()
    assert installation.process.returncode == RequirementsError.exit_code


def wait_for_child(installation: Installation, log: str = "begun") -> list[psutil.Process]:
    """The installer's processes, once the package is being built."""
    assert eventually(lambda: installation.log.with_name(log).exists(), 15)
    return installation.group()


def hang(tmp_path: Path) -> None:
    """A model whose package says that its build has begun and never ends it, and neither does what that started."""
    begun = tmp_path / "begun"
    build = f"import subprocess, pathlib; pathlib.Path({str(begun)!r}).touch(); subprocess.run(['sleep', '600'])"
    make_sdist(ask_for(tmp_path, "slow\n"), "slow", "1.0", build)


def test_a_limit_on_pip(tmp_path: Path, start: Callable[..., Installation]) -> None:
    """A pip that does not come to an end is reported after its time, with the limit and what it was at."""
    hang(tmp_path)
    installation = start(limit=5)
    processes = wait_for_child(installation)
    failure = installation.failure(20)
    assert "pip did not finish within 5 seconds (SAGEMAKER_STARTUP_TIMEOUT)" in failure
    assert "It was at ./wheels/slow-1.0.tar.gz and had said last: Preparing metadata" in failure
    installation.end()
    assert eventually(lambda: all_gone(processes), 5)


def test_the_end_of_whoever_started_it(tmp_path: Path, start: Callable[..., Installation]) -> None:
    """When its stdin ends, so do the installer and all that it has started, and what it made is removed."""
    hang(tmp_path)
    installation = start()
    processes = wait_for_child(installation)
    assert len(processes) >= 3
    assert installation.process.stdin is not None
    installation.process.stdin.close()
    assert eventually(lambda: all_gone(processes), 5)
    assert not installation.directory.exists()
    assert "was killed by SIGKILL" in installation.failure()


def test_pip_that_is_killed(tmp_path: Path, start: Callable[..., Installation]) -> None:
    """The kernel's choice, where memory runs out, is likely to be pip: the error says so."""
    hang(tmp_path)
    installation = start()
    wait_for_child(installation)
    psutil.Process(installation.process.pid).children()[0].kill()
    assert "pip was killed by SIGKILL: most likely the container ran out of memory" in installation.failure()


def test_no_pip_in_the_image(tmp_path: Path, start: Callable[..., Installation]) -> None:
    """An image without pip is said to be one."""
    make_wheel(ask_for(tmp_path, "shade\n"), "shade", "1.0")
    image = tmp_path / "image"
    venv.EnvBuilder(symlinks=True).create(image)
    packages = overlay.site_packages(image)
    (packages / "sagemaker_inference_lite").symlink_to(Path(sagemaker_inference_lite.__file__).parent)
    failure = start(python=str(image / "bin" / "python"), PYTHONPATH="").failure()
    assert f"the image's Python ({image / 'bin' / 'python'}) has no pip. Add it to the image" in failure


# -- The overlay -------------------------------------------------------------------------------------------------------


def test_no_place_for_packages(tmp_path: Path) -> None:
    """Where no overlay can be made, the error names the place, the reason and TMPDIR."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RequirementsError, match=r"in .*/file/x: Not a directory\. TMPDIR may name another\."):
        overlay.create(tmp_path / "file" / "x")


def test_what_was_imported_before(tmp_path: Path) -> None:
    """Modules of the overlay that this process has from elsewhere are named; others are not."""
    overlay.create(tmp_path / "o")
    packages = overlay.site_packages(tmp_path / "o")
    for name in ("numpy", "numpy.libs", "numpy-99.dist-info", "never_imported"):
        (packages / name).mkdir()
    (packages / "psutil.py").write_text("")
    assert overlay.already_imported(tmp_path / "o") == ["numpy", "psutil"]


# -- The packages of one model among several ---------------------------------------------------------------------------


def test_a_single_models_are_not_installed_again(tmp_path: Path) -> None:
    """In single-model mode a worker has nothing to install: the server did, before it started."""
    ask_for(tmp_path, "nowhere\n")
    of_one_model.provide(tmp_path, tmp_path / "packages", Settings())
    assert not (tmp_path / "packages").exists()


def test_a_model_that_may_not_install(tmp_path: Path) -> None:
    """The load of a model that asks for packages fails with the reason, and nothing is made for it."""
    ask_for(tmp_path, "shade\n")
    with pytest.raises(ModelError, match="SAGEMAKER_INSTALL_REQUIREMENTS=true"):
        of_one_model.provide(tmp_path, tmp_path / "packages", Settings(multi_model=True))
    assert not (tmp_path / "packages").exists()


def test_workers_of_one_model_install_once(tmp_path: Path) -> None:
    """Of several workers that load a model at once one installs; the others wait, and have the packages too."""
    make_wheel(ask_for(tmp_path, "shade\n"), "shade", "1.0")
    program = (
        "import sys; from pathlib import Path; from sagemaker_inference_lite.settings import Settings; "
        "from sagemaker_inference_lite.requirements import of_one_model; "
        "settings = Settings(multi_model=True, install_requirements=True); "
        f"of_one_model.provide(Path({str(tmp_path)!r}), Path({str(tmp_path / 'packages')!r}), settings); "
        "import shade; print('has', shade.VERSION)"
    )
    workers = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [worker.communicate(timeout=60)[0] for worker in workers]
    assert ["has 1.0" in output for output in outputs] == [True] * 3
    assert sum("Successfully installed shade-1.0" in output for output in outputs) == 1
