# SPDX-License-Identifier: Apache-2.0
"""container/build_and_push.sh with a real engine, real registries, and the real aws program asking moto."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Callable, NamedTuple

import pytest
import requests
from container_images import CONTAINER, Engine
from running_server import free_port

ROOT = CONTAINER.parent
SCRIPT = CONTAINER / "build_and_push.sh"

REGION = "eu-central-1"
ACCOUNT = "123456789012"
ECR = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
# moto takes any credentials, and gives this password for ECR.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
ECR_PASSWORD = f"{ACCOUNT}-auth-token"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
# What a registry may answer with, so that it answers with what it holds.
ANY_MANIFEST = ", ".join(
    [
        DOCKER_MANIFEST,
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    ]
)
LABELS = {f"com.amazonaws.sagemaker.capabilities.{name}": "true" for name in ("multi-models", "accept-bind-to-port")}

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_SCRIPT_SECONDS = 100.0


class Registry(NamedTuple):
    """A registry of the test's own.

    Attributes:
        host: Its address on loopback.
        auth: What it asks for; None where it is open.
    """

    host: str
    auth: tuple[str, str] | None = None

    def repositories(self) -> list[str]:
        """What it holds."""
        found: list[str] = requests.get(f"http://{self.host}/v2/_catalog", auth=self.auth, timeout=10).json()[
            "repositories"
        ]
        return found

    def manifest(self, name: str, reference: str) -> tuple[str, str]:
        """The media type and the digest of an image."""
        answer = requests.get(
            f"http://{self.host}/v2/{name}/manifests/{reference}",
            headers={"Accept": ANY_MANIFEST},
            auth=self.auth,
            timeout=10,
        )
        assert answer.status_code == 200, answer.text
        return answer.headers["Content-Type"], answer.headers["Docker-Content-Digest"]


class Done(NamedTuple):
    """How the script ended."""

    status: int
    stdout: str
    stderr: str

    def pushed(self) -> str:
        """The image that it names on stdout."""
        assert self.status == 0, self.stderr
        assert re.fullmatch(r"\S+@sha256:[0-9a-f]{64}\n", self.stdout), self.stdout
        return self.stdout.strip()

    def sentence(self) -> str:
        """The sentence with which it fails, which nothing on stdout belies."""
        assert self.status != 0
        assert self.stdout == ""
        said = [line for line in self.stderr.splitlines() if line.startswith("build_and_push.sh: ")]
        assert said == self.stderr.splitlines()[-1:], self.stderr
        return said[0]


Serve = Callable[..., Registry]
Run = Callable[..., Done]


def start(command: list[str], port: int, log: Path) -> subprocess.Popen[bytes]:
    """Starts a server and waits until it listens."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                end(process)
                pytest.fail(f"{command[0]} does not start: {log.read_text(errors='replace')}")
            time.sleep(0.05)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends what was started."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture
def serve_registry(tmp_path: Path) -> Iterator[Serve]:
    """Starts registries, open ones or with a user and a password, which end with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def serve(port: int | None = None, auth: tuple[str, str] | None = None) -> Registry:
        port = port or free_port()
        directory = tmp_path / f"registry-{port}"
        directory.mkdir()
        configuration = (
            "version: 0.1\n"
            f"storage: {{filesystem: {{rootdirectory: {directory / 'storage'}}}}}\n"
            f"http: {{addr: '127.0.0.1:{port}'}}\n"
        )
        if auth:
            bcrypt = import_module("bcrypt")  # only here: the other environments, which collect this, have none
            hashed = bcrypt.hashpw(auth[1].encode(), bcrypt.gensalt(rounds=4)).decode()
            (directory / "htpasswd").write_text(f"{auth[0]}:{hashed}\n")
            configuration += f"auth: {{htpasswd: {{realm: tests, path: {directory / 'htpasswd'}}}}}\n"
        (directory / "config.yml").write_text(configuration)
        command = ["docker-registry", "serve", str(directory / "config.yml")]
        processes.append(start(command, port, directory / "log"))
        return Registry(f"127.0.0.1:{port}", auth)

    yield serve
    for process in processes:
        end(process)


@pytest.fixture
def registry(serve_registry: Serve) -> Registry:
    """A registry that is open to everybody."""
    return serve_registry()


@pytest.fixture
def ecr(engine: Engine, serve_registry: Serve) -> Registry:
    """The registry that the engine takes for ECR's, which wants the password that AWS gives."""
    return serve_registry(engine.proxy_port, ("AWS", ECR_PASSWORD))


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that answers as AWS does."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("moto_server")), "--host", "127.0.0.1", "--port", str(port)]
    process = start(command, port, tmp_path_factory.mktemp("moto") / "log")
    yield f"http://127.0.0.1:{port}"
    end(process)


@pytest.fixture
def environ(engine: Engine, aws: str, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has an engine and an AWS account, and who never logged in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DOCKER_", "BUILDX_"))}
    return {
        **kept,
        **CREDENTIALS,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "DOCKER_HOST": engine.host,
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "TMPDIR": str(tmp_path / "temporary"),
        "AWS_CONFIG_FILE": str(tmp_path / "aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "aws-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": aws,
        "AWS_REGION": REGION,
    }


@pytest.fixture(params=["docker", "buildx"])
def builder(request: pytest.FixtureRequest, environ: dict[str, str]) -> str:
    """What builds: docker by itself, or buildx, which docker has for its plug-in."""
    name: str = request.param
    if name == "buildx":
        plugins = Path(environ["DOCKER_CONFIG"], "cli-plugins")
        plugins.mkdir(parents=True)
        (plugins / "docker-buildx").symlink_to(os.environ["INFERENCE_LITE_TEST_BUILDX"])
    return name


@pytest.fixture
def run(environ: dict[str, str], tmp_path: Path) -> Run:
    """Runs the script, or a copy of it, with changes to the environment; None takes a variable away."""

    def run(*arguments: str, script: Path = SCRIPT, **changes: str | None) -> Done:
        Path(environ["TMPDIR"]).mkdir(exist_ok=True)
        changed = {name: value for name, value in {**environ, **changes}.items() if value is not None}
        done = subprocess.run(
            [str(script), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=changed,
            cwd=tmp_path,
            timeout=_SCRIPT_SECONDS,
        )
        # However it ends, what it made for itself is gone.
        assert list(Path(environ["TMPDIR"]).iterdir()) == []
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="module")
def small_base(engine: Engine) -> Iterator[str]:
    """A base image that is one file, and so is pushed in no time."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("etc/small")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"\n"))
    engine.client.api.import_image_from_data(archive.getvalue(), repository="small-base", tag="1")
    yield "small-base:1"
    engine.client.images.remove("small-base:1", force=True)


@pytest.fixture
def small(tmp_path: Path, small_base: str) -> Path:
    """A copy of the script that lies beside a small Dockerfile, and in no checkout."""
    directory = tmp_path / "small"
    directory.mkdir()
    labels = " ".join(f"{name}={value}" for name, value in LABELS.items())
    (directory / "Dockerfile").write_text(f"ARG BASE_IMAGE={small_base}\nFROM ${{BASE_IMAGE}}\nLABEL {labels}\n")
    shutil.copy(SCRIPT, directory)
    return directory / SCRIPT.name


def pull(engine: Engine, image: str, auth: tuple[str, str] | None = None) -> dict[str, str]:
    """Takes an image that was pushed from the registry again, and nowhere else; its labels."""
    images = engine.client.images
    images.remove(str(images.get(image).id), force=True)
    login = {"username": auth[0], "password": auth[1]} if auth else None
    repository, _, digest = image.partition("@")
    pulled = images.pull(repository, tag=digest, auth_config=login)
    images.remove(str(pulled.id), force=True)
    return dict(pulled.labels)


def tree(directory: Path) -> dict[str, bytes]:
    """All files below a directory, and what is in them."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("builder")
def test_a_checkout(
    run: Run, engine: Engine, registry: Registry, base_image: str, wheels: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    """A checkout's own wheel is built into the image, which is the same the next time; the tree stays as it is."""
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "wheels")
    shutil.copytree(CONTAINER, checkout / "container", ignore=ignored)
    shutil.copytree(ROOT / "sagemaker_inference_lite", checkout / "sagemaker_inference_lite", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(wheels, checkout / "container" / "wheels")
    # Were the wheel that lies there taken, the version would not be this.
    init = checkout / "sagemaker_inference_lite" / "__init__.py"
    init.write_text(re.sub(r"(?m)^__version__ = .*$", '__version__ = "0.0.77"', init.read_text()))
    before = tree(checkout)
    command = ["--registry", registry.host, "--base-image", base_image, "a/checkout:1"]
    command += ["--", "--network", "none", "--build-arg", "PIP_NO_INDEX=1"]
    script = checkout / "container" / SCRIPT.name
    image = run(*command, script=script).pushed()
    assert run(*command, script=script).pushed() == image
    assert tree(checkout) == before
    program = "import importlib.metadata as it; print(it.version('sagemaker_inference_lite'))"
    said = engine.client.containers.run(image, ["python3", "-c", program], remove=True, network_mode="none")
    assert said.decode().split()[-1] == "0.0.77"
    assert registry.manifest("a/checkout", "1") == (DOCKER_MANIFEST, image.partition("@")[2])
    assert LABELS.items() <= engine.client.images.get(image).labels.items()


def test_to_a_registry(run: Run, engine: Engine, registry: Registry, small: Path, builder: str) -> None:
    """The image that is named on stdout can be pulled by that name, and has the labels; nothing is asked of AWS."""
    nothing = dict.fromkeys((*CREDENTIALS, "AWS_REGION", "AWS_ENDPOINT_URL"))
    done = run("--registry", f"{registry.host}/team", "plain:1.0", script=small, **nothing)
    image = done.pushed()
    assert builder == "docker" or "exporting to image" in done.stderr
    assert image.startswith(f"{registry.host}/team/plain@")
    # SageMaker takes no other.
    assert registry.manifest("team/plain", "1.0") == (DOCKER_MANIFEST, image.partition("@")[2])
    assert pull(engine, image) == LABELS


def test_the_repository(run: Run, engine: Engine, ecr: Registry, small: Path) -> None:
    """A repository that ECR lacks is made, with the login that ECR gives, and one that it has is taken as it is."""
    first = run("made/by-us", script=small)
    image = first.pushed()
    assert f"The repository {ECR}/made/by-us has been made." in first.stderr
    second = run("made/by-us:v2", script=small)
    assert second.pushed() == image
    assert "has been made" not in second.stderr
    assert image.startswith(f"{ECR}/made/by-us@")
    for tag in ("latest", "v2"):
        assert ecr.manifest("made/by-us", tag) == (DOCKER_MANIFEST, image.partition("@")[2])
    assert pull(engine, image, ecr.auth) == LABELS


@pytest.mark.parametrize("source", ["option", "variable", "configuration"])
def test_the_region(run: Run, ecr: Registry, small: Path, environ: dict[str, str], source: str) -> None:
    """The region is that of the option, of a variable, or of the caller's configuration of aws."""
    arguments: list[str] = []
    changes: dict[str, str | None] = {"AWS_REGION": None}
    if source == "option":
        arguments, changes = ["--region", REGION], {"AWS_REGION": "us-west-2"}
    elif source == "variable":
        changes["AWS_DEFAULT_REGION"] = REGION
    else:
        Path(environ["AWS_CONFIG_FILE"]).write_text(f"[default]\nregion = {REGION}\n")
    image = run(*arguments, f"region-{source}", script=small, **changes).pushed()
    assert image.startswith(f"{ECR}/region-{source}@")
    assert ecr.repositories() == [f"region-{source}"]


def test_a_base_image_in_ecr(
    run: Run, engine: Engine, ecr: Registry, registry: Registry, small: Path, small_base: str
) -> None:
    """A base image in ECR is pulled with a login of its own, wherever the image goes."""
    base = f"{ECR}/base:1"
    engine.client.images.get(small_base).tag(base)
    engine.client.images.push(base, auth_config={"username": "AWS", "password": ECR_PASSWORD})
    engine.client.images.remove(base)
    assert ecr.repositories() == ["base"]
    done = run("--base-image", base, "--registry", registry.host, "on-ecr", script=small)
    assert done.pushed().startswith(f"{registry.host}/on-ecr@")
    assert f"Downloaded newer image for {base}" in done.stderr
    engine.client.images.remove(base)


@pytest.mark.usefixtures("builder")
def test_what_docker_build_is_told(
    run: Run, engine: Engine, registry: Registry, small: Path, small_base: str, tmp_path: Path
) -> None:
    """Another directory and Dockerfile, the engine's own platform, and options of docker build reach the build."""
    context = tmp_path / "another"
    (context / "extend").mkdir(parents=True)
    (context / "extend" / "my.Dockerfile").write_text(
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY here.txt /\nARG WORD\nLABEL word=${WORD}\n"
    )
    (context / "here.txt").write_text("x")
    command = ["--registry=" + registry.host, f"--context={context}", "--file", "extend/my.Dockerfile"]
    command += ["--base-image", small_base, "--platform", f"linux/{engine.client.version()['Arch']}", "told"]
    image = run(*command, "--", "--build-arg", "WORD=spoken", "--label", "more=than one", script=small).pushed()
    assert pull(engine, image) == {"word": "spoken", "more": "than one"}


def test_help(run: Run) -> None:
    """--help says how it is used, and needs neither an engine nor AWS."""
    done = run("--help", DOCKER_HOST="unix:///missing")
    assert done.status == 0
    assert done.stdout.startswith("Usage: build_and_push.sh ")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the NAME of the image is missing"),
        (["--push", "name"], "there is no option --push"),
        (["name", "another"], "there are name and another"),
        (["Name"], "Name is no NAME[:TAG]"),
        (["name:"], "name: is no NAME[:TAG]"),
        (["name@sha256:" + 64 * "0"], "is no NAME[:TAG]"),
        (["name", "--base-image"], "--base-image needs a value"),
        (["name", "--platform", "linux/amd64,linux/arm64"], "one only, not linux/amd64,linux/arm64"),
        (["name", "--registry", "http://127.0.0.1:5000"], "without a scheme, not http://127.0.0.1:5000"),
        (["name", "--context", "/missing"], "there is no file /missing/Dockerfile"),
        (["name", "--file", "empty"], "names no base image, so --base-image IMAGE is needed"),
    ],
)
def test_arguments_that_cannot_be_used(run: Run, small: Path, arguments: list[str], said: str) -> None:
    """What cannot be used is named before anything else is done."""
    small.with_name("empty").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n")
    done = run(*arguments, script=small, DOCKER_HOST="unix:///missing")
    assert said in done.sentence()
    assert done.status == 2
    assert len(done.stderr.splitlines()) == 1


def test_no_engine(run: Run, small: Path, tmp_path: Path) -> None:
    """Where no engine answers, its address is named."""
    done = run("name", script=small, DOCKER_HOST=f"unix://{tmp_path}/missing.sock")
    assert "no Docker engine answers" in done.sentence()
    assert f"{tmp_path}/missing.sock" in done.sentence()


@pytest.mark.parametrize("missing", ["docker", "aws"])
def test_no_program(run: Run, small: Path, tmp_path: Path, missing: str) -> None:
    """A program that is not on PATH is named."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for program in "bash cat dirname docker env grep mktemp rm sed tail tee tr".split():
        found = shutil.which(program)
        if program != missing and found:
            (directory / program).symlink_to(found)
    sentence = run("name", script=small, PATH=str(directory)).sentence()
    assert f"there is no {missing} program on PATH" in sentence


def test_no_credentials(run: Run, small: Path) -> None:
    """Where there are no credentials, that is said, in aws's words too."""
    nothing = dict.fromkeys(CREDENTIALS)
    sentence = run("name", script=small, **nothing).sentence()
    assert f"there are no credentials that AWS accepts in {REGION}" in sentence
    assert "Unable to locate credentials" in sentence


def test_no_region(run: Run, small: Path) -> None:
    """Where no region is known, it is said how to name one."""
    assert "no AWS region is known; give --region REGION" in run("name", script=small, AWS_REGION=None).sentence()


def test_no_aws(run: Run, small: Path) -> None:
    """Where AWS cannot be reached, its address is named."""
    address = f"http://127.0.0.1:{free_port()}"
    assert address in run("name", script=small, AWS_ENDPOINT_URL=address, AWS_MAX_ATTEMPTS="1").sentence()


def test_a_base_image_that_is_missing(run: Run, registry: Registry, small: Path) -> None:
    """A base image that cannot be had is named, and nothing is pushed."""
    base = f"{registry.host}/no-base:2"
    sentence = run("--registry", registry.host, "--base-image", base, "name", script=small).sentence()
    assert f"the base image {base} is not in the engine and cannot be pulled" in sentence
    assert registry.repositories() == []


def test_a_base_image_for_another_platform(
    run: Run, engine: Engine, registry: Registry, small: Path, small_base: str
) -> None:
    """A base image that is there for another platform only is not taken for it, and nothing is pushed."""
    base = f"{registry.host}/base:1"
    engine.client.images.get(small_base).tag(base)
    engine.client.images.push(base)
    other = {"amd64": "linux/arm64", "arm64": "linux/amd64"}[engine.client.version()["Arch"]]
    done = run("--registry", registry.host, "--base-image", base, "--platform", other, "name", script=small)
    assert f"the base image {base} is not" in done.sentence()
    assert registry.repositories() == ["base"]


@pytest.mark.usefixtures("builder")
def test_a_build_that_fails(run: Run, registry: Registry, small: Path) -> None:
    """Where the build fails, docker's reason is told and nothing is pushed."""
    with small.with_name("Dockerfile").open("a") as file:
        file.write("COPY not-there.txt /\n")
    sentence = run("--registry", registry.host, "name", script=small).sentence()
    assert f"the build of {small.parent} failed and nothing was pushed to {registry.host}/name:latest" in sentence
    assert "not-there.txt" in sentence
    assert registry.repositories() == []


def test_a_wheel_that_cannot_be_built(run: Run, registry: Registry, small: Path) -> None:
    """Where the checkout's wheel cannot be built, nothing is pushed: a wheel from elsewhere is not taken instead."""
    (small.parents[1] / "sagemaker_inference_lite").mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (small.parents[1] / name).write_text("")
    sentence = run("--registry", registry.host, "name", script=small, PYTHON="/missing/python").sentence()
    assert f"/missing/python builds no wheel of {small.parents[1]}" in sentence
    assert registry.repositories() == []


def test_nobody_listens(run: Run, small: Path) -> None:
    """A registry that nobody serves is named, and nothing is called pushed."""
    host = f"127.0.0.1:{free_port()}"
    sentence = run("--registry", host, "name", script=small).sentence()
    assert f"the registry does not take {host}/name:latest" in sentence
    assert "connection refused" in sentence


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_registry_that_refuses(
    run: Run, serve_registry: Serve, small: Path, environ: dict[str, str], password: str | None
) -> None:
    """Without a login, or with a wrong one, nothing is called pushed."""
    registry = serve_registry(auth=("somebody", "right"))
    if password:
        login = base64.b64encode(f"somebody:{password}".encode()).decode()
        directory = Path(environ["DOCKER_CONFIG"])
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": login}}}))
    sentence = run("--registry", registry.host, "name", script=small).sentence()
    assert f"the registry does not take {registry.host}/name:latest; see that it runs and that docker is" in sentence
    assert registry.repositories() == []


def test_a_login_that_is_refused(run: Run, engine: Engine, serve_registry: Serve, small: Path) -> None:
    """Where ECR refuses its own password, that is said before anything is built."""
    registry = serve_registry(engine.proxy_port, ("AWS", "another"))
    done = run("name", script=small)
    assert f"the registry {ECR} refuses the password that ECR in {REGION} gave" in done.sentence()
    assert "Successfully built" not in done.stderr
    assert registry.repositories() == []
