# SPDX-License-Identifier: Apache-2.0
"""The notes by which a client finds the servers that run here."""

from __future__ import annotations

import os
from pathlib import Path

from sagemaker_inference_lite.local.running import Running, noted, running_here

SERVER = Running("http://127.0.0.1:8081", os.getpid(), False, ("iris",), 1.5)


def test_a_note_is_there_while_the_server_is(tmp_path: Path) -> None:
    """It says where a server is, only this user can read it, and it goes with the server."""
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert running_here(environ) == []
    with noted(environ, SERVER):
        assert running_here(environ) == [SERVER]
        (note,) = tmp_path.glob("*/*.json")
        assert note.stat().st_mode & 0o777 == 0o600
    assert running_here(environ) == []
    assert list(tmp_path.glob("*/*")) == []


def test_a_note_of_a_server_that_is_gone_is_removed(tmp_path: Path) -> None:
    """One whose process was killed is not locked: it is not believed, and removed."""
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with noted(environ, SERVER):
        (note,) = tmp_path.glob("*/*.json")
        left = note.with_name("1.json")
        left.write_bytes(note.read_bytes())
        assert running_here(environ) == [SERVER]
        assert not left.exists()


def test_a_directory_that_others_can_write_to_is_not_believed(tmp_path: Path) -> None:
    """What others could have written is not read, and a note that cannot be left stops nobody."""
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with noted(environ, SERVER):
        (directory,) = tmp_path.iterdir()
        directory.chmod(0o777)
        assert running_here(environ) == []
    with noted({"XDG_RUNTIME_DIR": str(tmp_path / "absent")}, SERVER):
        pass
