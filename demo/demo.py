# SPDX-License-Identifier: Apache-2.0
"""Two models behind one multi-model endpoint, on this machine: trained, packed, served, asked and unloaded.

    python demo/demo.py             all of that, and then the server is stopped
    python demo/demo.py --serve     the server goes on, for you to ask, until Ctrl-C

The models are trained on data that comes with scikit-learn. Each is packed as the model.tar.gz that would be put
into S3, with a code/inference.py of its own, and unpacked where SageMaker would unpack it. The server is started
as the container starts it, and listens on this machine only.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import Any

try:
    import joblib
    import numpy as np
    import numpy.typing as npt
    import psutil
    import requests
    from retrying import RetryError, Retrying
    from sklearn.datasets import load_digits, load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    from sagemaker_inference_lite import codecs
    from sagemaker_inference_lite.content_types import CSV, JSON, NPY
except ImportError as error:
    sys.exit(f"The demo cannot start: {error}. Use make demo, or pip install '.[jre,demo]' first.")

HERE = Path(__file__).resolve().parent
ENTRY_POINT = HERE.parent / "container" / "dockerd-entrypoint.py"
GRAPES = ("Barolo", "Grignolino", "Barbera")

START_SECONDS = 60
STOP_SECONDS = 30
REQUEST_SECONDS = 60

Table = npt.NDArray[Any]


class DemoError(Exception):
    """The demo cannot go on; the message is for the person at the terminal."""


class Stopped(KeyboardInterrupt):
    """Somebody wants the demo to end: the terminal, or whoever sends SIGTERM. Its argument is the signal."""


# -- The models --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A trained model with what it has never seen.

    Attributes:
        title: What the demo calls it, and the directory that has its code.
        name: What the server calls it: SageMaker makes such names up.
        file: The trained model.
        rows: Held-out samples.
        truth: What each of them is.
        read: What an answer for one sample says, in the words of truth.
    """

    title: str
    name: str
    file: Path
    rows: Table
    truth: Sequence[str]
    read: Callable[[Any], str]


def train_digits(directory: Path) -> Model:
    """A support vector machine that reads digits in 8x8 pixels."""
    data = load_digits()
    seen, held_out, labels, truth = train_test_split(data.data.astype(int), data.target, random_state=0)
    file = directory / "digits.joblib"
    joblib.dump(SVC(C=10).fit(seen / 16, labels), file)
    return Model("digits", uuid.uuid4().hex, file, held_out, [str(each) for each in truth], str)


def train_wine(directory: Path) -> Model:
    """A logistic regression that tells grapes by the chemistry of their wine; its arrays are all that is kept."""
    data = load_wine()
    seen, held_out, labels, truth = train_test_split(data.data, data.target, random_state=0)
    scaler = StandardScaler().fit(seen)
    fitted = LogisticRegression().fit(scaler.transform(seen), labels)
    file = directory / "wine.npz"
    arrays = {"mean": scaler.mean_, "scale": scaler.scale_, "weights": fitted.coef_.T, "bias": fitted.intercept_}
    np.savez(file, names=np.array(GRAPES), **arrays)
    return Model("wine", uuid.uuid4().hex, file, held_out, [GRAPES[each] for each in truth], lambda each: each["grape"])


# -- Archives ----------------------------------------------------------------------------------------------------------


def pack(model: Model, archive: Path) -> list[str]:
    """Makes the model.tar.gz that SageMaker would fetch from S3; says what it holds."""
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(model.file, model.file.name)
        for path in sorted((HERE / model.title / "code").glob("*.py")):
            tar.add(path, f"code/{path.name}")
        return tar.getnames()


def unpack(archive: Path, directory: Path) -> None:
    """Unpacks an archive as far as it holds plain files and directories below the one that is given.

    Raises:
        DemoError: It is damaged, or holds links, absolute paths or "..": nothing may land anywhere else.
    """
    try:
        _check_whole(archive)
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                _unpack_member(tar, member, directory)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DemoError(f"{archive} cannot be unpacked: {error}.") from error


def _check_whole(archive: Path) -> None:
    # tarfile takes a damaged header for the end of the archive, and never looks at the checksum behind it.
    with gzip.open(archive) as file:
        while file.read(1 << 20):
            pass


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise DemoError(f"{tar.name!s} cannot be unpacked: it holds {member.name!r}, which is no plain file inside it.")
    target = directory / path
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    assert content is not None  # it is a file
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)


# -- The server --------------------------------------------------------------------------------------------------------


class Server:
    """The server as the container would start it, in several-model mode and on loopback only.

    Leaving it ends its process, in whatever state that is. It has a session of its own, so that Ctrl-C reaches the
    demo and nobody else.

    Args:
        base_dir: Holds models/, as /opt/ml does on SageMaker.
        log: Where what it prints goes; None for the terminal.
    """

    def __init__(self, base_dir: Path, log: Path | None) -> None:
        self._log = log
        self.url = f"http://127.0.0.1:{_free_port()}"
        self.environ = _environment(base_dir, self.url)
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no way to this machine's loopback
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(log.open("wb")) if log else None
            self.process = subprocess.Popen(
                [sys.executable, str(ENTRY_POINT), "serve"],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
            )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.process.terminate()
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print("The server does not stop; it is killed.", file=sys.stderr)
        finally:
            self.process.kill()
            self.process.wait()

    def send(self, method: str, path: str, **more: Any) -> requests.Response:
        """Sends a request and gives the answer, whatever its status; DemoError where none comes."""
        try:
            return self._session.request(method, self.url + path, timeout=REQUEST_SECONDS, **more)
        except requests.RequestException as error:
            raise DemoError(f"{method} {path} got no answer ({type(error).__name__}). {self._hint()}") from error

    def expect_200(self, method: str, path: str, purpose: str, **more: Any) -> requests.Response:
        """Sends a request that has no reason to fail; DemoError where it does."""
        answer = self.send(method, path, **more)
        if answer.status_code != 200:
            raise DemoError(f"{purpose} was answered {answer.status_code}: {message_of(answer)} {self._hint()}")
        return answer

    def wait_until_ready(self) -> None:
        """Returns once /ping is answered with 200; DemoError where the server ends instead."""
        patient = Retrying(
            retry_on_result=lambda ready: not ready,
            retry_on_exception=lambda error: False,  # it retries on any exception unless it is told not to
            wait_fixed=20,
            stop_max_delay=1000 * START_SECONDS,
        )
        try:
            patient.call(self._is_ready)
        except RetryError:
            raise DemoError(f"The server was not ready within {START_SECONDS} seconds. {self._hint()}") from None

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise DemoError(f"The server ended with status {self.process.returncode}: {self._last_words()}")
        try:
            return self._session.get(self.url + "/ping", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").split("\n") if self._log else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed why.")

    def _hint(self) -> str:
        return "The cause is in server.log, which --keep DIRECTORY keeps." if self._log else "The server printed why."

    def stop(self) -> None:
        """Stops it as the platform does: SIGTERM, and then it has 30 seconds."""
        self.process.terminate()
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(f"The server did not stop within {STOP_SECONDS} seconds.") from None
        if status:
            raise DemoError(f"The server stopped with status {status}: {self._last_words()}")


def _environment(base_dir: Path, url: str) -> dict[str, str]:
    """What the platform sets, what keeps the server on loopback, and what is worth importing once for all models."""
    return {
        "SAGEMAKER_MODEL_SERVER_PRELOAD": "joblib,sklearn.svm",
        **os.environ,
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BASE_DIR": str(base_dir),
        "SAGEMAKER_BIND_TO_PORT": url.rpartition(":")[2],
        "MMS_INFERENCE_ADDRESS": url,
        "MMS_MANAGEMENT_ADDRESS": url,
    }


def _free_port() -> int:
    """A port that nobody listens on, below 32767, from which on the front end takes none."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def message_of(answer: requests.Response) -> str:
    """What an error's body says: the library's and the front end's look different."""
    try:
        body = answer.json()
        return str(body.get("error", body)["message"])
    except (ValueError, AttributeError, KeyError):
        return answer.text.strip()


def milliseconds(answer: requests.Response) -> str:
    """How long the answer took."""
    return f"{1000 * answer.elapsed.total_seconds():6.1f} ms"


# -- The demo ----------------------------------------------------------------------------------------------------------


def prepare(base_dir: Path) -> list[Model]:
    """Trains the models, and packs and unpacks each as it would be on SageMaker."""
    print("Training two models, and packing them as SageMaker wants them")
    models = [train_digits(base_dir), train_wine(base_dir)]
    for model in models:
        archive = base_dir / model.title / "model.tar.gz"
        names = pack(model, archive)
        unpack(archive, base_dir / "models" / model.name / "model")
        place = f"{model.title}/{archive.name}"
        print(f"  {place:24}{archive.stat().st_size / 1024:7.1f} KB   {', '.join(names)}")
    return models


def start(server: Server) -> None:
    """Waits for the server."""
    begun = time.monotonic()
    print(f"\nStarting the server, for several models, on {server.url}")
    server.wait_until_ready()
    imported = ", ".join(filter(None, server.environ["SAGEMAKER_MODEL_SERVER_PRELOAD"].split(","))) or "nothing"
    print(f"  it answers after {time.monotonic() - begun:.1f} s, and has imported, once for all models: {imported}")


def load(server: Server, base_dir: Path, models: Sequence[Model]) -> None:
    """Loads the models, under names and from places such as SageMaker gives them."""
    print("\nLoading the models")
    for model in models:
        body = {"model_name": model.name, "url": str(base_dir / "models" / model.name / "model")}
        answer = server.expect_200("POST", "/models", f"Loading {model.title}", json=body)
        print(f"  {model.title:7} {milliseconds(answer)}   as {model.name}")


def ask(server: Server, model: Model, rows: Table, content_type: str) -> requests.Response:
    """Sends rows in one of the types and asks for an answer in JSON."""
    body, content_type = codecs.encode(rows, content_type)
    headers = {"Content-Type": content_type, "Accept": JSON}
    return server.expect_200(
        "POST", f"/models/{model.name}/invoke", f"Asking {model.title}", data=body, headers=headers
    )


def ask_in_every_type(server: Server, model: Model, count: int = 5) -> None:
    """Sends some held-out samples in each type, and prints what comes back above the truth."""
    for place, content_type in enumerate((JSON, CSV, NPY)):
        chosen = slice(place * count, (place + 1) * count)
        answer = ask(server, model, model.rows[chosen], content_type)
        predicted = [model.read(each) for each in answer.json()]
        width = max(map(len, model.truth))
        print(f"  {model.title:7} {content_type:17} {milliseconds(answer)}   predicted  {_columns(predicted, width)}")
        print(f"  {'':38}truth      {_columns(model.truth[chosen], width)}")


def _columns(words: Sequence[str], width: int) -> str:
    return " ".join(word.ljust(width) for word in words).rstrip()


def ask_for_all(server: Server, model: Model) -> None:
    """Sends all held-out samples in one request, and counts the right answers."""
    answer = ask(server, model, model.rows, NPY)
    right = sum(model.read(each) == truth for each, truth in zip(answer.json(), model.truth))
    share = f"{right} of {len(model.truth)} right ({100 * right / len(model.truth):.1f} %)"
    print(f"  {model.title:7} all held out      {milliseconds(answer)}   {share}")


def ask_nonsense(server: Server, model: Model) -> None:
    """Sends what the model cannot take, to see what a caller is told."""
    headers = {"Content-Type": CSV}
    answer = server.send("POST", f"/models/{model.name}/invoke", data="1,2,3", headers=headers)
    print(f"  {model.title:7} three numbers     {milliseconds(answer)}   {answer.status_code}: {message_of(answer)}")


def _listed(server: Server, titles: Mapping[str, str]) -> str:
    models = server.expect_200("GET", "/models", "Listing the models").json()["models"]
    return " and ".join(sorted(titles[each["modelName"]] for each in models)) or "none"


def unload(server: Server, models: Sequence[Model]) -> None:
    """Lists the models, unloads each, and lists what is left."""
    titles = {model.name: model.title for model in models}
    print(f"\nUnloading the models; the server has {_listed(server, titles)}")
    for model in models:
        answer = server.expect_200("DELETE", f"/models/{model.name}", f"Unloading {model.title}")
        print(f"  {model.title:7} {milliseconds(answer)}   the server has {_listed(server, titles)}")


def stop(server: Server, processes: Sequence[psutil.Process]) -> None:
    """Stops the server and looks for what it may have left running."""
    begun = time.monotonic()
    print("\nStopping the server with SIGTERM")
    server.stop()
    seconds = time.monotonic() - begun
    _, running = psutil.wait_procs(processes, timeout=2)
    if running:
        raise DemoError(f"The server has ended, but left {len(running)} of its processes running.")
    print(f"  exit status 0 after {seconds:.1f} s, and none of its {len(processes)} processes is left")


def run(base_dir: Path) -> None:
    """The whole way, from training to the end of the server."""
    models = prepare(base_dir)
    with Server(base_dir, base_dir / "server.log") as server:
        start(server)
        load(server, base_dir, models)
        print("\nAsking about what they have never seen")
        for model in models:
            ask_in_every_type(server, model)
            ask_for_all(server, model)
            ask_nonsense(server, model)
        processes = _family(server.process.pid)
        unload(server, models)
        stop(server, processes)


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


# -- For you to ask ----------------------------------------------------------------------------------------------------


def serve(base_dir: Path) -> None:
    """Loads the models, says how to ask them, and lets the server go on until somebody wants it to end."""
    models = prepare(base_dir)
    with Server(base_dir, log=None) as server:
        start(server)
        load(server, base_dir, models)
        print("\nAsk them, from another terminal; Ctrl-C here ends the server\n")
        print("\n\n".join(curl_lines(server, base_dir, models)), end="\n\n")
        with contextlib.suppress(Stopped):
            server.process.wait()
            raise DemoError(f"The server ended with status {server.process.returncode}; it printed why.")
        print("\nStopping the server")
        server.stop()
        print("  exit status 0")


def curl_lines(server: Server, base_dir: Path, models: Sequence[Model]) -> list[str]:
    """Commands for a shell. Without a Content-Type curl would call the data a form, and no model would get it."""
    file = base_dir / "samples.npy"
    digits, wine = models
    np.save(file, digits.rows[:5])
    return [
        _curl(server, f"/models/{digits.name}/invoke", JSON, _text(digits.rows[:1], JSON)),
        _curl(server, f"/models/{digits.name}/invoke", NPY, f"@{file}", accept=CSV),
        _curl(server, f"/models/{wine.name}/invoke", CSV, _text(wine.rows[:1], CSV)),
        _curl(server, "/models"),
    ]


def _text(rows: Table, content_type: str) -> str:
    return codecs.encode(rows, content_type)[0].decode().strip()


def _curl(server: Server, path: str, content_type: str = "", data: str = "", accept: str = "") -> str:
    words = ["curl", server.url + path]
    words += ["-H", f"Accept: {accept}"] if accept else []
    words += ["-H", f"Content-Type: {content_type}", "--data-binary", data] if data else []
    return shlex.join(words)


# -- The program -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _directory(kept: Path | None) -> Iterator[Path]:
    """The directory that stands for /opt/ml: one that is left behind, or a temporary one."""
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="demo-") as path:
            yield Path(path).resolve()
        return
    kept.mkdir(parents=True, exist_ok=True)
    if any(kept.iterdir()):
        raise DemoError(f"{kept} is not empty.")
    yield kept.resolve()


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit status."""
    parser = argparse.ArgumentParser(description="Serve two models on this machine and ask them for predictions.")
    parser.add_argument("--serve", action="store_true", help="let the server go on until Ctrl-C")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="leave archives, models and log in a directory")
    arguments = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with _directory(arguments.keep) as base_dir:
            (serve if arguments.serve else run)(base_dir)
    except Stopped as stopped:
        print("\nStopped before its end.", file=sys.stderr)
        return 128 + int(stopped.args[0])
    except (DemoError, OSError, psutil.Error) as error:
        print(f"\nThe demo failed. {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is the real one here
    sys.exit(main())
