# SPDX-License-Identifier: Apache-2.0
"""The demo, run for real: what it prints, that it leaves nothing behind, and how it fails."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from running_server import all_gone, eventually

pytestmark = pytest.mark.once

DEMO = Path(__file__).resolve().parents[1] / "demo" / "demo.py"

# Runs the demo with a function in it replaced.
BROKEN = """
import sys
sys.path.insert(0, {directory!r})
import demo
{change}
sys.exit(demo.main([]))
"""


def environment(tmp_path: Path, **environ: str) -> dict[str, str]:
    """An environment in which temporary files are the test's own."""
    return {**os.environ, "TMPDIR": str(tmp_path), **environ}


def run(tmp_path: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the demo to its end."""
    command = [sys.executable, str(DEMO), *arguments]
    return subprocess.run(command, env=environment(tmp_path, **environ), capture_output=True, text=True, timeout=100)


def failure(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence that a demo which failed says on stderr."""
    assert done.returncode == 1, done
    sentence = done.stderr.strip()
    assert sentence.startswith("The demo failed. "), sentence
    assert "\n" not in sentence
    return sentence


# -- The whole of it ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a demo prints that has nothing to complain of and leaves nothing behind."""
    scratch = tmp_path_factory.mktemp("demo")
    done = run(scratch)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert list(scratch.iterdir()) == []
    return done.stdout


@pytest.mark.parametrize("title", ["digits", "wine"])
@pytest.mark.parametrize("content_type", ["application/json", "text/csv", "application/x-npy"])
def test_predictions_stand_above_the_truth(output: str, title: str, content_type: str) -> None:
    """Each model is asked in each type, and most of its answers are right."""
    found = re.search(
        rf"^  {title} +{re.escape(content_type)} +[0-9.]+ ms   predicted  (.+)\n +truth      (.+)$",
        output,
        re.MULTILINE,
    )
    assert found, output
    predicted, truth = found[1].split(), found[2].split()
    assert len(predicted) == len(truth) == 5
    assert sum(each == other for each, other in zip(predicted, truth)) >= 4


def test_the_models_are_good(output: str) -> None:
    """Of all that was held out, each model is right about nine tenths or more."""
    shares = re.findall(r"all held out +[0-9.]+ ms   \d+ of \d+ right \(([0-9.]+) %\)", output)
    assert len(shares) == 2
    assert all(float(share) > 90 for share in shares)


def test_nonsense_is_the_callers_mistake(output: str) -> None:
    """What a model cannot take is answered 400, in the words of that model's own features.py."""
    assert re.search(r"digits +three numbers +[0-9.]+ ms   400: Expected images of 8x8 numbers", output)
    assert re.search(r"wine +three numbers +[0-9.]+ ms   400: Expected rows of 13 numbers", output)


def test_models_are_listed_and_unloaded(output: str) -> None:
    """Both models are listed, and neither is once it is unloaded."""
    assert "the server has digits and wine\n" in output
    assert re.search(r"digits +[0-9.]+ ms   the server has wine\n +wine +[0-9.]+ ms   the server has none\n", output)


def test_the_server_stops(output: str) -> None:
    """The server ends with status 0 and leaves no process behind."""
    assert re.search(r"exit status 0 after [0-9.]+ s, and none of its [0-9]+ processes is left\n$", output)


def test_keep(tmp_path: Path) -> None:
    """With --keep the archives, the unpacked models and the server's log stay."""
    kept = tmp_path / "kept"
    assert run(tmp_path, "--keep", str(kept)).returncode == 0
    for title in ("digits", "wine"):
        with tarfile.open(kept / title / "model.tar.gz") as tar:
            assert {"code/inference.py", "code/features.py"} < set(tar.getnames())
    unpacked = [path.relative_to(kept / "models") for path in kept.glob("models/*/model/code/inference.py")]
    assert len(unpacked) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", path.parts[0]) for path in unpacked)
    assert "ready on http" in (kept / "server.log").read_text()


# -- --serve -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts demos; ends those that the test leaves running, and their servers with them."""
    started: list[subprocess.Popen[str]] = []

    def starter(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(DEMO), *arguments]
        started.append(
            subprocess.Popen(
                command, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
        return started[-1]

    yield starter
    for process in started:
        for each in family(process) if process.poll() is None else []:
            each.kill()
        process.kill()
        process.communicate()


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All that a demo has started."""
    return psutil.Process(process.pid).children(recursive=True)


def lines_until(process: subprocess.Popen[str], ending: str) -> Iterator[str]:
    """The lines that a demo prints, up to the first that begins so."""
    assert process.stdout is not None
    for line in process.stdout:
        yield line.rstrip("\n")
        if line.startswith(ending):
            return
    raise AssertionError(f"the demo ended with status {process.wait()} before it printed {ending!r}")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_serve(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """The commands that it prints work as they are printed, and Ctrl-C ends it with status 0."""
    demo = start("--serve")
    # The listing is the last of them, and the only one without data.
    commands = [line for line in lines_until(demo, "curl") if line.startswith("curl")]
    while not commands[-1].endswith("/models"):
        commands += [line for line in lines_until(demo, "curl") if line.startswith("curl")]
    answers = [
        subprocess.run(f"{command} -sSf", shell=True, check=True, capture_output=True, text=True, timeout=30).stdout
        for command in commands
    ]
    assert re.fullmatch(r"\[\d\]", answers[0])
    assert re.fullmatch(r"(\d\n){5}", answers[1])
    assert '"grape":"Barolo"' in answers[2]
    assert answers[3].count('"modelName"') == 2

    processes = family(demo)
    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate(timeout=40)
    assert demo.returncode == 0, rest
    assert rest.endswith("exit status 0\n")
    eventually(lambda: all_gone(processes))
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_is_stopped(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """SIGTERM ends it, and the server that it has started, wherever it is."""
    demo = start()
    list(lines_until(demo, "Starting the server"))
    processes = eventually(lambda: family(demo))
    demo.terminate()
    rest, _ = demo.communicate(timeout=40)
    assert demo.returncode == 128 + signal.SIGTERM, rest
    assert rest.rstrip().endswith("Stopped before its end.")
    eventually(lambda: all_gone(processes))
    assert list(tmp_path.iterdir()) == []


# -- Failures ----------------------------------------------------------------------------------------------------------


def test_a_server_that_does_not_start(tmp_path: Path) -> None:
    """What the server says of itself is what the demo says."""
    sentence = failure(run(tmp_path, SAGEMAKER_MODEL_SERVER_WORKERS="two"))
    assert "status 2" in sentence
    assert "SAGEMAKER_MODEL_SERVER_WORKERS='two': expected a whole number" in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_in_use(tmp_path: Path) -> None:
    """--keep takes no directory that has something in it."""
    (tmp_path / "mine").write_text("")
    assert "is not empty" in failure(run(tmp_path, "--keep", str(tmp_path)))


def broken(tmp_path: Path, change: str) -> subprocess.CompletedProcess[str]:
    """Runs the demo with a change to it."""
    code = BROKEN.format(directory=str(DEMO.parent), change=change)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=100)


def test_a_corrupt_archive(tmp_path: Path) -> None:
    """An archive that is cut short ends the demo with one sentence that names it."""
    change = (
        "pack = demo.pack\n"
        "def cut(model, archive):\n"
        "    names = pack(model, archive)\n"
        "    archive.write_bytes(archive.read_bytes()[:-100])\n"
        "    return names\n"
        "demo.pack = cut\n"
    )
    assert "model.tar.gz cannot be unpacked: " in failure(broken(tmp_path, change))
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    """A load that fails ends the demo with one sentence, and the server with it."""
    change = (
        "unpack = demo.unpack\n"
        "def damage(archive, directory):\n"
        "    unpack(archive, directory)\n"
        "    (directory / 'code' / 'inference.py').write_text('import nowhere')\n"
        "demo.unpack = damage\n"
    )
    sentence = failure(broken(tmp_path, change))
    assert "Loading digits was answered 500" in sentence
    assert list(tmp_path.iterdir()) == []


# -- Archives ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> Iterator[ModuleType]:
    """The demo as a module."""
    spec = importlib.util.spec_from_file_location("the_demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def archive_of(tmp_path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """An archive with these members."""
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """A member of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_an_archive_is_unpacked(demo: ModuleType, tmp_path: Path) -> None:
    """Files and directories come out as they went in."""
    archive = archive_of(tmp_path, (member("code", tarfile.DIRTYPE), b""), (member("./code/a.py"), b"a = 1\n"))
    demo.unpack(archive, tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").rglob("*")] == ["code", "a.py"]
    assert (tmp_path / "model" / "code" / "a.py").read_bytes() == b"a = 1\n"


@pytest.mark.parametrize(
    "hostile",
    [
        member("../outside"),
        member("code/../../outside"),
        member("/tmp/outside"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("hard", tarfile.LNKTYPE, "../outside"),
        member("fifo", tarfile.FIFOTYPE),
    ],
    ids=lambda each: each.name,
)
def test_a_hostile_archive_is_refused(demo: ModuleType, tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    """Nothing lands outside of the directory, and no link is made; the sentence names the member."""
    archive = archive_of(tmp_path, (hostile, b""))
    with pytest.raises(demo.DemoError, match=re.escape(repr(hostile.name))):
        demo.unpack(archive, tmp_path / "model")
    assert [path.name for path in tmp_path.rglob("*")] == ["model.tar.gz"]


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped"])
def test_a_damaged_archive_is_refused(demo: ModuleType, tmp_path: Path, damage: str) -> None:
    """An archive that is not whole is refused before anything of it is unpacked."""
    archive = archive_of(tmp_path, (member("a"), os.urandom(20_000)), (member("b"), os.urandom(20_000)))
    whole = archive.read_bytes()
    flipped = whole[:30_000] + bytes([whole[30_000] ^ 255]) + whole[30_001:]
    archive.write_bytes({"empty": b"", "text": b"no archive", "cut": whole[:-5000], "flipped": flipped}[damage])
    with pytest.raises(demo.DemoError, match=r"model\.tar\.gz cannot be unpacked: "):
        demo.unpack(archive, tmp_path / "model")
    assert not (tmp_path / "model").exists()
