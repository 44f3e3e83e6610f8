# SPDX-License-Identifier: Apache-2.0
"""The table of codecs, and what all of them have in common."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from bodies import array_of, refusal

from sagemaker_inference_lite import codecs
from sagemaker_inference_lite.codecs import decode, encode, register_codec, registry
from sagemaker_inference_lite.content_types import CSV, JSON, JSON_LINES, NPY, X_JSON_LINES, MediaType
from sagemaker_inference_lite.errors import ClientError, NotAcceptableError, UnsupportedMediaTypeError


def test_what_is_supported_is_advertised() -> None:
    """The types that can be decoded and encoded are listed, the preferred one first."""
    first = (JSON, CSV, NPY, JSON_LINES, X_JSON_LINES)
    assert codecs.decodable()[: len(first)] == first
    assert codecs.encodable()[: len(first)] == first


@pytest.mark.parametrize("content_type", ["text/html", "application/x-protobuf", "application/pdf", "*/*"])
def test_unknown_types_are_415_with_the_known_ones(content_type: str) -> None:
    """A type without a codec is refused with status 415, and the message lists those that have one."""
    with pytest.raises(UnsupportedMediaTypeError) as caught:
        decode(b"1", content_type)
    assert caught.value.status == 415
    assert repr(content_type) in caught.value.message
    assert "application/json or text/csv or application/x-npy" in caught.value.message


@pytest.mark.parametrize("content_type", ["", "json", "text/csv; charset", "text/csv, text/csv"])
def test_a_content_type_that_is_none_is_400(content_type: str) -> None:
    """A Content-Type header that the grammar does not allow is the client's mistake."""
    assert "is not a media type" in refusal(b"1", content_type)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [(None, JSON), ("", JSON), ("*/*", JSON), ("text/*", CSV), ("application/x-npy;q=0.5, text/csv;q=0.4", NPY)],
)
def test_encode_answers_in_a_type_that_is_accepted(accept: str | None, expected: str) -> None:
    """Body and content type are made together, of the type that the Accept header prefers."""
    body, content_type = encode([[1.5]], accept)
    assert content_type == expected
    assert array_of(body, content_type).tolist() == [[1.5]]


def test_encode_refuses_what_it_has_no_codec_for() -> None:
    """Where no codec makes an accepted type the error has status 406 and lists what there is."""
    with pytest.raises(NotAcceptableError, match="application/json, text/csv, application/x-npy"):
        encode([1], "application/pdf")


@pytest.fixture
def _table_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes back what a test registers."""
    monkeypatch.setattr(registry, "_codecs", dict(registry._codecs))
    monkeypatch.setattr(registry, "_decodable", registry._decodable)
    monkeypatch.setattr(registry, "_encodable", registry._encodable)


@pytest.mark.usefixtures("_table_as_it_was")
def test_a_registered_codec_is_used_and_advertised() -> None:
    """A codec for a new type decodes with the request's parameters, encodes, and is listed last."""

    def decode_words(body: bytes, media_type: MediaType) -> object:
        return body.decode(media_type.charset or "ascii").split()

    register_codec("Text/X-Words", decode=decode_words, encode=lambda value: str(value).encode())
    assert codecs.decodable()[-1] == codecs.encodable()[-1] == "text/x-words"
    assert decode("ä b".encode("latin-1"), "text/x-words; charset=latin-1") == ["ä", "b"]
    assert encode(5, "text/x-words") == (b"5", "text/x-words")


@pytest.mark.usefixtures("_table_as_it_was")
def test_a_codec_may_serve_one_direction_and_replace_another() -> None:
    """A codec that only encodes leaves its type unsupported for requests; a second one takes the place of the first."""
    register_codec("text/x-words", encode=lambda value: b"1")
    assert "text/x-words" not in codecs.decodable()
    with pytest.raises(UnsupportedMediaTypeError):
        decode(b"a", "text/x-words")
    register_codec("text/x-words", decode=lambda body, media_type: 2)
    assert "text/x-words" not in codecs.encodable()
    assert decode(b"a", "text/x-words") == 2


@pytest.mark.parametrize("content_type", ["words", "text/*", "*/*", "text/x; a=b"])
def test_codecs_are_registered_for_plain_types_only(content_type: str) -> None:
    """A codec for a wildcard, for a type with parameters or for nothing is refused with ValueError."""
    with pytest.raises(ValueError, match=r"type/subtype"):
        register_codec(content_type, decode=lambda body, media_type: None)


def test_a_codec_without_functions_is_refused() -> None:
    """A codec that neither decodes nor encodes is refused with ValueError."""
    with pytest.raises(ValueError, match="needs a function"):
        register_codec("text/x-words")


def test_the_package_imports_neither_numpy_nor_orjson() -> None:
    """Only this module pays for the libraries that it uses."""
    program = (
        "import sys, sagemaker_inference_lite.content_types; sys.exit(not {'numpy', 'orjson'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


# -- What the codecs have in common ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(("body", "content_type"), [(b"[1, 2]", JSON), (b"1,2", CSV), (encode([1, 2], NPY)[0], NPY)])
def test_bodies_may_be_any_kind_of_bytes(kind: Any, body: bytes, content_type: str) -> None:
    """bytes, bytearray and memoryview decode to the same."""
    assert array_of(kind(body), content_type).ravel().tolist() == [1, 2]


def test_text_that_its_charset_has_no_bytes_for_is_400() -> None:
    """A body that an input_fn got as text is encoded again, which not each charset can do."""
    text = codecs.as_text(b"\x1b(J\x1b\xff", "text/csv; charset=iso-2022-jp")
    with pytest.raises(
        ClientError, match="is not text in iso-2022-jp: illegal multibyte sequence at character"
    ) as caught:
        decode(text, "text/csv; charset=iso-2022-jp")
    assert caught.value.status == 400


class Tensor:
    """An array of another library's, known by numpy's protocol."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """The array."""
        return np.array([[1.5]])


def test_arrays_of_other_libraries_encode() -> None:
    """Whatever numpy can make an array of encodes as that array, in each type."""
    assert encode(Tensor(), JSON)[0] == b"[[1.5]]"
    assert encode({"a": Tensor()}, JSON)[0] == b'{"a":[[1.5]]}'
    assert encode(Tensor(), CSV)[0] == b"1.5\n"
    assert array_of(encode(Tensor(), NPY)[0], NPY).tolist() == [[1.5]]


# The most memory, in MB, that a process has had. Its ru_maxrss would be no less than that of whoever started it.
PEAK = """
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) // 1024
"""

HOSTILE = """
from sagemaker_inference_lite import codecs
from sagemaker_inference_lite.errors import ClientError

bodies = [
    (b'["' + b"a" * 1_000_000 + b'"' + b',"b"' * 200_000 + b"]", "application/json"),
    (b"a" * 100_000 + b"\\nb" * 500_000, "text/csv"),
    (b"\\n" * 3_000_000 + b"1,2", "text/csv"),
    (b"[" * 3_000_000, "application/json"),
    (
        b"\\x93NUMPY\\x01\\x00\\x48\\x00{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000,), }      ",
        "application/x-npy",
    ),
]
before = peak()
for body, content_type in bodies:
    try:
        codecs.decode(body, content_type)
    except ClientError:
        pass
print(peak() - before)
"""


def test_hostile_bodies_take_no_more_memory_than_their_size_explains() -> None:
    """Bodies of some megabytes that would blow up in a careless decoder stay within two hundred."""
    run = subprocess.run([sys.executable, "-c", PEAK + HOSTILE], stdout=subprocess.PIPE, timeout=60, check=True)
    assert int(run.stdout) < 200


LARGE = """
import numpy as np
from sagemaker_inference_lite.codecs import decode, encode
from sagemaker_inference_lite.errors import ClientError

SIZE = 25_000_000

def shape_of(body, content_type):
    try:
        value = decode(body, content_type)
    except ClientError as error:
        return error.message.partition(":")[0]
    return value.dtype.kind, *value.shape

print(shape_of(b"[" + b"1.5," * (SIZE // 4) + b"2]", "application/json"))
print(shape_of(b'{"instances":[' + b"[1,2]," * (SIZE // 6) + b"[3,4]]}", "application/json"))
print(shape_of(b"[" + b'"a",' * (SIZE // 4) + b'"b"]', "application/json"))
print(shape_of(b"[" * SIZE, "application/json"))
print(shape_of((b"[" + b"0.5, " * 9 + b"1.5]\\n") * (SIZE // 50), "application/jsonlines"))
print(shape_of(b"[\\n" * (SIZE // 2), "application/jsonlines"))
print(shape_of((b"1.5,2," * 9 + b"\\n") * (SIZE // 55), "text/csv"))
print(shape_of(b"0.1234,5.6789\\n" * (SIZE // 14), "text/csv"))
print(shape_of(b"alpha,beta,gamma\\n" * (SIZE // 17), "text/csv"))
print(shape_of(b'"' * SIZE, "text/csv"))
print(shape_of(encode(np.zeros((SIZE // 8, 1)), "application/x-npy")[0], "application/x-npy"))
print(peak())
"""


def test_bodies_of_the_largest_size_are_read() -> None:
    """Bodies as large as SageMaker lets through are read, or refused, in less than a gigabyte."""
    run = subprocess.run(
        [sys.executable, "-c", PEAK + LARGE], stdout=subprocess.PIPE, timeout=100, check=True, text=True
    )
    *outcomes, megabytes = run.stdout.splitlines()
    assert outcomes == [
        "('f', 6250001)",
        "('i', 4166667, 2)",
        "('U', 6250001)",
        "The body is not JSON",
        "('f', 500000, 10)",
        "The body is not JSON Lines",
        "('f', 454545, 19)",
        "('f', 1785714, 2)",
        "('U', 1470588, 3)",
        "The body is not CSV",
        "('f', 3125000, 1)",
    ]
    assert int(megabytes) < 1000
