# SPDX-License-Identifier: Apache-2.0
"""Libraries that may be missing, and those that are imported late."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
