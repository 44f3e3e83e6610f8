# SPDX-License-Identifier: Apache-2.0
"""What is found wrong before anything is started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sagemaker_inference_lite.errors import DirectoryError, PortInUseError, PreflightError
from sagemaker_inference_lite.launch.preflight import check_address, check_model_directory, is_listening

LOOPBACK = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that listens on a free port of loopback."""
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server


def port_of(sock: socket.socket) -> int:
    """The port that a socket is bound to."""
    port: int = sock.getsockname()[1]
    return port


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [LOOPBACK, "0.0.0.0"])
def test_port_in_use(listener: socket.socket, host: str) -> None:
    """A port on which somebody listens is refused, with the variable that sets another."""
    port = port_of(listener)
    with pytest.raises(PortInUseError, match=f"^Port {port} is in use.*SAGEMAKER_BIND_TO_PORT"):
        check_address((host, port))


def test_free_port(listener: socket.socket) -> None:
    """A port that nobody uses is accepted, and still free afterwards."""
    port = port_of(listener)
    listener.close()
    for _ in range(2):
        check_address((LOOPBACK, port))
    assert not is_listening((LOOPBACK, port))


def test_port_of_a_server_that_has_just_ended(listener: socket.socket) -> None:
    """Connections of the last server that the kernel still remembers do not make its port unusable."""
    port = port_of(listener)
    with socket.create_connection((LOOPBACK, port)):
        accepted, _ = listener.accept()
        accepted.close()  # the first to close is the one whose address stays in TIME_WAIT
    listener.close()
    check_address((LOOPBACK, port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_address_of_somebody_else(host: str) -> None:
    """An address that is not this machine's is refused by its name."""
    with pytest.raises(PreflightError, match=f"Nothing can listen on {host}:8080"):
        check_address((host, 8080))


def test_listening_on_a_port(listener: socket.socket) -> None:
    """Whether somebody listens is found out by connecting, under the address of all interfaces too."""
    address = (LOOPBACK, port_of(listener))
    assert is_listening(address)
    assert is_listening(("0.0.0.0", address[1]))
    listener.close()
    assert not is_listening(address)


def test_listening_on_a_path() -> None:
    """The same for unix sockets: a file that is not there, or that nobody listens on any more, is none."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = Path(directory, "server.sock")
        assert not is_listening(path)
        check_address(path)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            assert not is_listening(path)
            server.listen()
            assert is_listening(path)
        assert not is_listening(path)


def test_ipv6() -> None:
    """An address with colons is one of IPv6."""
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("needs IPv6 on loopback")
    with server:
        assert is_listening(("::1", port_of(server)))
        with pytest.raises(PortInUseError):
            check_address(("::1", port_of(server)))


# -- the model's directory --------------------------------------------------------------------------------------------


def complaint_about(path: Path) -> str:
    """What is wrong with a model directory."""
    with pytest.raises(DirectoryError) as caught:
        check_model_directory(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_model_directory(tmp_path: Path) -> None:
    """A directory with something in it is a model."""
    (tmp_path / "model.bin").touch()
    check_model_directory(tmp_path)


def test_no_model_directory(tmp_path: Path) -> None:
    """A directory that is not there is named, with the variable that moves it and the mode that needs none."""
    found = complaint_about(tmp_path / "model")
    assert "does not exist" in found
    assert "SAGEMAKER_BASE_DIR" in found
    assert "SAGEMAKER_MULTI_MODEL" in found


def test_a_base_directory_one_level_too_deep(tmp_path: Path) -> None:
    """SAGEMAKER_BASE_DIR that is the model's own directory is said to be, with what it has to be."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    found = complaint_about(tmp_path / "model" / "model")
    assert f"SAGEMAKER_BASE_DIR is {tmp_path / 'model'}, one level too deep" in found
    assert found.endswith(f"so set it to {tmp_path}.")


@pytest.mark.parametrize("name", ["code", "model.joblib", "model.tar.gz"])
def test_a_model_in_the_base_directory(tmp_path: Path, name: str) -> None:
    """A model that lies where its directory should is said to lie there."""
    (tmp_path / name).touch()
    assert f"the model lies in {tmp_path}" in complaint_about(tmp_path / "model")


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    """A dangling link is shown with where it leads."""
    (tmp_path / "model").symlink_to(tmp_path / "gone")
    assert f"is a link to {tmp_path / 'gone'}, which does not exist" in complaint_about(tmp_path / "model")


def test_empty_model_directory(tmp_path: Path) -> None:
    """A directory with nothing in it is no model."""
    assert "is empty" in complaint_about(tmp_path)


def test_a_file_for_a_model_directory(tmp_path: Path) -> None:
    """A file in the directory's place is no model."""
    (tmp_path / "model").touch()
    assert "Not a directory" in complaint_about(tmp_path / "model")


def test_unreadable_model_directory(tmp_path: Path) -> None:
    """A directory that this user may not read is named with the reason."""
    model = tmp_path / "model"
    model.mkdir(mode=0o000)
    with unprivileged():
        assert "cannot be read: Permission denied" in complaint_about(model)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Gives up what root may do beyond others, for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_comma_in_a_model_directory(tmp_path: Path) -> None:
    """The front end would take a path with a comma in it for a list of models."""
    (tmp_path / "a,b" / "model").mkdir(parents=True)
    assert "comma" in complaint_about(tmp_path / "a,b")


# -- limits -----------------------------------------------------------------------------------------------------------


def test_open_files() -> None:
    """The soft limit of open files is raised to the hard one, for this process and its children, and returned."""
    program = (
        "import resource as r; _, most = r.getrlimit(r.RLIMIT_NOFILE); r.setrlimit(r.RLIMIT_NOFILE, (128, most));"
        "from sagemaker_inference_lite.launch import preflight; found = preflight.raise_open_file_limit();"
        "print(found == most and r.getrlimit(r.RLIMIT_NOFILE) == (most, most))"
    )
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout == b"True\n"
