# SPDX-License-Identifier: Apache-2.0
"""Libraries that may be missing, and those that are imported late."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from bodies import status_of

from sagemaker_inference_lite.codecs import encode

# Stands for an environment without these libraries: nothing finds them, and nothing imports them.
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
for name in {missing!r}:
    sys.modules[name] = None
"""


def run(program: str, missing: tuple[str, ...] = ()) -> list[str]:
    """The lines that a program prints where libraries are missing."""
    code = WITHOUT.format(missing=missing) + program
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_nothing_optional_is_imported_before_it_is_needed() -> None:
    """The codecs import no library that only some bodies need."""
    program = """
import sagemaker_inference_lite.codecs
print({"PIL", "pyarrow", "scipy", "pandas"} & set(sys.modules) or "none")
"""
    assert run(program) == ["none"]


@pytest.mark.parametrize(
    ("library", "types"),
    [
        (
            "pyarrow",
            ["application/vnd.apache.arrow.stream", "application/vnd.apache.parquet", "application/x-parquet"],
        ),
        ("PIL", ["image/png", "image/jpeg"]),
    ],
)
def test_what_a_missing_library_reads_is_not_offered(library: str, types: list[str]) -> None:
    """Without its library a type is neither decoded nor encoded, and no message lists it."""
    pytest.importorskip(library, reason=f"{library} is not installed")
    program = """
from sagemaker_inference_lite import codecs
assert codecs.decodable() == codecs.encodable()
print(*codecs.decodable())
"""
    with_it, without = run(program)[0].split(), run(program, (library,))[0].split()
    assert [name for name in with_it if name not in types] == without
    assert set(types) <= set(with_it)


def test_the_order_is_the_one_of_preference() -> None:
    """Where a client accepts anything it gets JSON; bytes and text come last, which hold the least."""
    program = "from sagemaker_inference_lite import codecs\nprint(*codecs.encodable())"
    names = run(program)[0].split()
    assert names[:3] == ["application/json", "text/csv", "application/x-npy"]
    assert names[-2:] == ["application/octet-stream", "text/plain"]


def test_sparse_matrices_without_scipy_are_415() -> None:
    """The message says what the server lacks; archives of plain arrays are read without it."""
    program = """
import io
import numpy as np
from sagemaker_inference_lite.codecs import decode
from sagemaker_inference_lite.errors import ClientError
stream = io.BytesIO()
np.savez(stream, format=b"csr", shape=[1, 1], data=[1.0], indices=[0], indptr=[0, 1])
try:
    decode(stream.getvalue(), "application/x-npz")
except ClientError as error:
    print(error.status, error.message)
"""
    (line,) = run(program, ("scipy",))
    assert line.startswith("415 ")
    assert "lacks scipy" in line


# Stands for a library that is installed, and whose binary part does not fit what else is.
BROKEN = """
import io, sys
import numpy as np
from sagemaker_inference_lite.codecs import decode, encodable, encode
from sagemaker_inference_lite.errors import ClientError

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name in ("pyarrow.lib", "PIL._imaging", "scipy.sparse"):
            raise AttributeError("_ARRAY_API not found in /usr/lib/private")

sys.meta_path.insert(0, Broken())

def shown(function, *arguments):
    try:
        function(*arguments)
    except ClientError as error:
        print(error.status, error.message)

"""


@pytest.mark.parametrize(("library", "name"), [("pyarrow", "x-parquet"), ("pyarrow", "vnd.apache.arrow.stream")])
def test_tables_are_415_and_406_where_pyarrow_cannot_be_imported(library: str, name: str) -> None:
    """A library that is there and is broken is no fault of the client's body, and its trace is for the log."""
    pytest.importorskip(library, reason=f"{library} is not installed")
    body = encode([[1.5]], f"application/{name}")[0]
    program = f"shown(decode, {body!r}, 'application/{name}')\nshown(encode, [1], 'application/{name}')\n"
    message = "This server's pyarrow, which the type needs, cannot be imported."
    assert run(BROKEN + program) == [f"415 {message}", f"406 {message}"]


def test_images_are_415_and_406_where_pillow_cannot_be_imported() -> None:
    """As tables are without pyarrow."""
    pytest.importorskip("PIL", reason="Pillow is not installed")
    image = np.zeros((3, 4), np.uint8)
    bodies = [(name, encode(image, name)[0]) for name in ("image/png", "image/jpeg")]
    program = f"for name, body in {bodies!r}:\n    shown(decode, body, name)\n"
    program += "    shown(encode, np.zeros((3, 4), np.uint8), name)\n"
    message = "This server's PIL, which the type needs, cannot be imported."
    assert run(BROKEN + program) == [f"415 {message}", f"406 {message}"] * 2


def test_sparse_matrices_are_415_where_scipy_cannot_be_imported() -> None:
    """As tables are without pyarrow."""
    pytest.importorskip("scipy", reason="scipy is not installed")
    program = """
stream = io.BytesIO()
np.savez(stream, format=b"csr", shape=[1, 1], data=[1.0], indices=[0], indptr=[0, 1])
shown(decode, stream.getvalue(), "application/x-npz")
"""
    assert run(BROKEN + program) == ["415 This server's scipy, which the type needs, cannot be imported."]


@pytest.mark.parametrize(
    ("version", "status"), [("13.0.0", 415), ("14.0.0", 415), ("14.0.1", 200), ("27.0.0.dev1", 200)]
)
def test_a_pyarrow_that_unpickles_is_given_no_body(monkeypatch: pytest.MonkeyPatch, version: str, status: int) -> None:
    """Before 14.0.1 pyarrow unpickles what a body calls an extension type, so it reads none."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    for name in ("application/x-parquet", "application/vnd.apache.arrow.stream"):
        body = encode([[1.5]], name)[0]
        with monkeypatch.context() as patch:
            patch.setattr(pyarrow, "__version__", version)
            assert status_of(body, name) == status


def test_encoders_ask_for_nothing_that_is_missing() -> None:
    """Without scipy and Pillow the others encode as they do with them."""
    program = """
import numpy as np
from sagemaker_inference_lite.codecs import encodable, encode
for name in ("application/x-npz", "application/vnd.apache.parquet", "application/octet-stream", "text/plain"):
    if name in encodable():
        encode(b"" if "octet" in name else 1, name)
print("done")
"""
    assert run(program, ("scipy", "PIL")) == ["done"]
