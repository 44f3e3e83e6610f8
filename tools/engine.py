# SPDX-License-Identifier: Apache-2.0
"""A Docker engine of its own for the tests of tests/container/, and images of Debian to build on.

It needs no engine that runs already, and pulls no image. It needs Linux, root, and programs that Debian and Ubuntu have
in their packages.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from environments import PrepareError, run

# Programs, and the packages that they are in.
PROGRAMS = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "debootstrap": "debootstrap",
    "docker-registry": "docker-registry",
    "dpkg-deb": "dpkg",
}

# The registry that build_and_push.sh would push to, were it asked with the account that the tests have.
ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"

MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
PACKAGES = ("python3", "python3-venv", "python3-pip", "ca-certificates")
# What images of some frameworks install with apt, for builds that have no network.
OPENMP = "libgomp1"
# Where docker-buildx is taken from: releases before it do not have the package.
BUILDX_SUITE = "trixie"
# What is of no use in an image.
LEFT_OUT = ("./var/cache/apt/*.bin", "./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*")

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_APT_SECONDS = 300.0
_DEBOOTSTRAP_SECONDS = 600.0
_ARCHIVE_SECONDS = 300.0


class Running(NamedTuple):
    """An engine that runs.

    Attributes:
        host: What DOCKER_HOST has to be.
        proxy_port: The port of loopback where a registry is taken for ECR's.
    """

    host: str
    proxy_port: int


def check() -> None:
    """Raise PrepareError unless an engine can be started here; installs what is missing where that is possible."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        raise PrepareError("An engine of its own needs Linux and root: run it with sudo, or in a virtual machine.")
    missing = sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)})
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise PrepareError(f"Install {', '.join(missing)} (so are Debian's packages called), and run this again.")
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for verb, *more in (["update"], ["install", "--no-install-recommends", *missing]):
        run(["apt-get", "-y", "-qq", verb, *more], f"apt-get {verb}", "", _APT_SECONDS, variables)


@contextmanager
def engine(directory: Path) -> Iterator[Running]:
    """Run an engine that keeps all that it has in a directory; end it, and its containers, and take that away.

    It has no bridge and changes no firewall: containers have the host's network, or none.

    Raises:
        PrepareError: It does not start.
    """
    directory.mkdir(parents=True)
    host, proxy_port, log = f"unix://{directory / 'docker.sock'}", _free_port(), directory / "log"
    argv = ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", f"--host={host}"]
    argv += [f"--{name}={directory / name}" for name in ("data-root", "exec-root", "pidfile")]
    argv += [f"--insecure-registry={ECR}"]
    # Where a test puts a registry, requests to ECR arrive. Other registries are on loopback, which goes past a proxy.
    proxies = {f"{name}_PROXY": f"http://127.0.0.1:{proxy_port}" for name in ("HTTP", "HTTPS")}
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **proxies}
            )
        try:
            _wait_for(process, directory / "docker.sock", log)
            yield Running(host, proxy_port)
        finally:
            _end_containers(host)
            _end(process)
    finally:
        _remove(directory)


def debian(suite: str, directory: Path) -> None:
    """The files of a small Debian with Python as <suite>.tar, and with OpenMP's library too as <suite>-openmp.tar.

    They are made where they are not there, in a minute.

    Raises:
        PrepareError: They cannot be made.
    """
    without, having = directory / f"{suite}.tar", directory / f"{suite}-openmp.tar"
    if without.is_file() and having.is_file():
        return
    tree = directory / f"{suite}.tree"
    _debootstrap(suite, tree, f"--include={','.join([*PACKAGES, OPENMP])}")
    _pack(tree, having)
    run(["chroot", str(tree), "dpkg", "--purge", OPENMP], f"removing {OPENMP}", limit_seconds=_ARCHIVE_SECONDS)
    _pack(tree, without)
    shutil.rmtree(tree)


def _pack(tree: Path, archive: Path) -> None:
    unfinished = archive.with_suffix(".unfinished")
    left_out = [f"--exclude={name}" for name in LEFT_OUT]
    argv = ["tar", "--create", f"--file={unfinished}", *left_out, f"--directory={tree}", "."]
    run(argv, f"packing {archive.name}", limit_seconds=_ARCHIVE_SECONDS)
    unfinished.replace(archive)


def buildx(program: Path) -> Path:
    """Debian's docker-buildx, a plug-in for docker; fetched where it is not there, in 15 seconds.

    Raises:
        PrepareError: It cannot be fetched.
    """
    if program.is_file():
        return program
    tree = program.with_suffix(".tree")
    _debootstrap(BUILDX_SUITE, tree, "--download-only", "--include=docker-buildx")
    (package,) = (tree / "var" / "cache" / "apt" / "archives").glob("docker-buildx_*.deb")
    run(["dpkg-deb", "--extract", str(package), str(tree)], "unpacking docker-buildx", limit_seconds=_ARCHIVE_SECONDS)
    (tree / "usr" / "libexec" / "docker" / "cli-plugins" / "docker-buildx").rename(program)
    shutil.rmtree(tree)
    return program


def _debootstrap(suite: str, tree: Path, *options: str) -> None:
    """Make a new directory with a Debian, or with its packages."""
    tree.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(tree, ignore_errors=True)
    argv = ["debootstrap", "--variant=minbase", *options, suite, str(tree), MIRROR]
    run(argv, f"debootstrap {suite}", limit_seconds=_DEBOOTSTRAP_SECONDS)


def _wait_for(process: subprocess.Popen[bytes], address: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(address))
            return
        time.sleep(0.1)
    raise PrepareError(f"The engine does not start: {log.read_text(errors='replace')[-2000:]}")


def _end_containers(host: str) -> None:
    """Containers outlive an engine that is ended with some running."""
    with suppress(OSError, subprocess.TimeoutExpired):
        docker = ["docker", f"--host={host}"]
        found = subprocess.run([*docker, "ps", "--quiet"], capture_output=True, text=True, timeout=_STOP_SECONDS)
        if found.stdout.split():
            subprocess.run([*docker, "kill", *found.stdout.split()], capture_output=True, timeout=_STOP_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _remove(directory: Path) -> None:
    # An engine that was killed leaves its containers' file systems mounted.
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if line.split()[1].startswith(f"{directory}/"):
            subprocess.run(["umount", "--lazy", line.split()[1]], check=False)
    shutil.rmtree(directory, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
