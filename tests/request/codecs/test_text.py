# SPDX-License-Identifier: Apache-2.0
"""application/octet-stream and text/plain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_inference_lite.codecs import decode, encode
from sagemaker_inference_lite.content_types import OCTET_STREAM, TEXT_PLAIN
from sagemaker_inference_lite.errors import ClientError, NotAcceptableError


@given(st.binary())
def test_octets_survive_a_round_trip(body: bytes) -> None:
    """application/octet-stream is bytes, as they are, in both directions."""
    assert encode(decode(body, OCTET_STREAM), OCTET_STREAM) == (body, OCTET_STREAM)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_octets_take_any_kind_of_bytes(kind: Any) -> None:
    """bytes, bytearray and memoryview encode to the same."""
    assert encode(kind(b"\x00\xff"), OCTET_STREAM)[0] == b"\x00\xff"


@pytest.mark.parametrize("value", ["text", 1, None, [1], np.zeros(2), {"a": b""}])
def test_what_octets_cannot_hold_is_406(value: object) -> None:
    """Nothing but bytes has a form as octets, an array's least of all, whose memory says nothing of its shape."""
    with pytest.raises(NotAcceptableError, match=f"of type {type(value).__name__}"):
        encode(value, OCTET_STREAM)


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not text.startswith("\ufeff")))
def test_text_survives_a_round_trip(text: str) -> None:
    """text/plain is str, line ends as they are, in both directions."""
    assert decode(encode(text, TEXT_PLAIN)[0], TEXT_PLAIN) == text


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"", TEXT_PLAIN, ""),
        (b"gr\xc3\xbcn\r\n", TEXT_PLAIN, "grün\r\n"),
        (b"\xef\xbb\xbfa", TEXT_PLAIN, "a"),
        (b"\xef\xbb\xbfa", "text/plain; charset=UTF-8", "a"),
        (b"gr\xfcn", "text/plain; charset=iso-8859-1", "grün"),
        ("\u20ac".encode("utf-16"), "text/plain; charset=utf-16", "\u20ac"),
    ],
)
def test_text_is_read_in_its_charset(body: bytes, content_type: str, expected: str) -> None:
    """The charset parameter is heeded, UTF-8 without one, and UTF-8's byte order mark is passed over."""
    assert decode(body, content_type) == expected


def test_text_that_is_none_is_400_with_the_byte() -> None:
    """Text that is not in its charset is the client's mistake, and the message says where."""
    with pytest.raises(ClientError, match="not text in utf-8: invalid start byte at byte 1") as caught:
        decode(b"a\xff", TEXT_PLAIN)
    assert caught.value.status == 400


def test_text_in_an_unknown_charset_is_415() -> None:
    """A charset counts as part of the type."""
    with pytest.raises(ClientError, match="'idna' is not supported") as caught:
        decode(b"a", "text/plain; charset=idna")
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", b"a"),
        (1, b"1"),
        (0.1, b"0.1"),
        (True, b"True"),
        (1 + 2j, b"(1+2j)"),
        (np.float32(0.1), b"0.1"),
        (np.int64(3), b"3"),
        (np.bool_(True), b"True"),
        (np.str_("a"), b"a"),
        (np.array(0.5), b"0.5"),
        (np.array([[2]]), b"2"),
    ],
)
def test_text_takes_text_and_single_numbers(value: object, expected: bytes) -> None:
    """A str is written as it is, a single number as Python writes it, alone in an array or not."""
    assert encode(value, TEXT_PLAIN) == (expected, TEXT_PLAIN)


@pytest.mark.parametrize(
    "value", [None, b"a", [1], ["a"], {}, np.zeros(2), np.array([]), np.timedelta64(1, "s"), "\ud800"]
)
def test_what_text_cannot_hold_is_406(value: object) -> None:
    """Anything else, a lone surrogate among it, has no form as text."""
    with pytest.raises(NotAcceptableError, match="text/plain"):
        encode(value, TEXT_PLAIN)
