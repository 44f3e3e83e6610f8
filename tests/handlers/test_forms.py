# SPDX-License-Identifier: Apache-2.0
"""Forms: the fields that MMS would show a handler, and what keeps a hostile one cheap."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_inference_lite.errors import ClientError
from sagemaker_inference_lite.handlers.forms import (
    MAX_FIELDS,
    Field,
    Form,
    boundary_of,
    multipart_fields,
    url_encoded_fields,
)

MIB = 1 << 20


def part(content: bytes, *headers: str) -> bytes:
    """A part of a form whose boundary is XX, up to the boundary behind it."""
    return b"--XX\r\n" + "\r\n".join(headers).encode() + b"\r\n\r\n" + content + b"\r\n"


def parts_of(*parts: bytes) -> list[Field]:
    """The fields of a form of these parts."""
    return list(multipart_fields(b"".join(parts) + b"--XX--\r\n", "XX"))


def named(name: str, more: str = "") -> str:
    """The header that names a part."""
    return f'Content-Disposition: form-data; name="{name}"{more}'


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", []),
        (b"a=1&b=2", [("a", b"1"), ("b", b"2")]),
        (b"a=1&a=2", [("a", b"1"), ("a", b"2")]),
        (b"a+b=%41+%c3%a9", [("a b", "A é".encode())]),
        (b"&&a=&b&c=d=e&", [("a", b""), ("b", b""), ("c", b"d=e")]),
        (b"a=1;b=2\r\n", [("a", b"1;b=2")]),
        ("é=ü".encode(), [("é", "ü".encode())]),
        (b"a=\xff%ff", [("a", "��".encode())]),
        (b"a=%3D%0D%0A%25", [("a", b"=\r\n%")]),
    ],
)
def test_url_encoded(body: bytes, fields: list[tuple[str, bytes]]) -> None:
    """Names and values as the media type's definition has them, in UTF-8."""
    assert list(url_encoded_fields(body)) == [Field(name, "", value) for name, value in fields]


@given(st.lists(st.tuples(st.text(min_size=1), st.text()), min_size=1, max_size=8))
def test_what_python_encodes_is_decoded(fields: list[tuple[str, str]]) -> None:
    """Whatever text is put into a form comes out of it."""
    body = urllib.parse.urlencode(fields, errors="replace").encode()
    expected = [
        Field(each.encode(errors="replace").decode(), "", text.encode(errors="replace")) for each, text in fields
    ]
    assert list(url_encoded_fields(body)) == expected


def test_parts() -> None:
    """A file has its media type and its bytes; any other field has its bytes, and no type."""
    assert parts_of(
        part(b"1", named("a")),
        part(b"\0\xff\r\n--X\r\n-XX\r\n\r\n--XXY", named("f", '; filename="x.png"'), "Content-Type: image/png; a=b"),
        part(b"", named("g", '; filename=""')),
        part(b"2", named("h", "; filename*=UTF-8''x"), "content-type: TEXT/csv"),
        part(b"{}", named("j"), "Content-Type: application/json"),
        part(b"\xff", named("k")),
    ) == [
        Field("a", "", b"1"),
        Field("f", "image/png", b"\0\xff\r\n--X\r\n-XX\r\n\r\n--XXY"),
        Field("g", "application/octet-stream", b""),
        Field("h", "TEXT/csv", b"2"),
        Field("j", "", b"{}"),
        Field("k", "", b"\xff"),
    ]


@given(st.binary(max_size=60))
def test_any_bytes_in_a_part(content: bytes) -> None:
    """A file is exact to the byte, whatever it holds but its form's own boundary."""
    boundary = "a-boundary-that-no-content-holds"
    whole = part(content, named("f", '; filename="f"')).replace(b"--XX\r\n", b"--%b\r\n" % boundary.encode(), 1)
    (field,) = multipart_fields(whole + b"--%b--" % boundary.encode(), boundary)
    assert field.value == content


@pytest.mark.parametrize(
    ("written", "name"),
    [("a; b", "a; b"), (r"a\"b", 'a"b'), (r"a\\b", r"a\b"), ("a%22b", "a%22b"), ("é", "é"), ("a:b,c=d", "a:b,c=d")],
)
def test_names_of_parts(written: str, name: str) -> None:
    """What stands between quotes is the name; a backslash escapes a quote and itself alone."""
    assert [field.name for field in parts_of(part(b"", named(written)))] == [name]


def test_text_of_another_charset_becomes_utf_8() -> None:
    """A field of text that names its charset is passed on in UTF-8, as MMS does it; an unknown one changes nothing."""
    for charset, value in (("iso-8859-1", "é".encode()), ("nonsense", b"\xe9"), ("utf-8", b"\xe9")):
        assert parts_of(part(b"\xe9", named("a"), f"Content-Type: text/plain; charset={charset}"))[0].value == value


@pytest.mark.parametrize(
    ("body", "count"),
    [(b"", 0), (b"--XX--", 0), (b"preamble\r\n" + part(b"1", named("a")) + b"--XX--\r\nepilogue", 1)],
)
def test_around_parts(body: bytes, count: int) -> None:
    """What stands before the first boundary and behind the last one is nothing."""
    assert len(list(multipart_fields(body, "XX"))) == count


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (lambda: url_encoded_fields(b"a=%zz"), "two hexadecimal digits"),
        (lambda: url_encoded_fields(b"a=%4"), "two hexadecimal digits"),
        (lambda: url_encoded_fields(b"=1"), "no name"),
        (lambda: multipart_fields(b"garbage", "XX"), "last boundary"),
        (lambda: multipart_fields(part(b"1", named("a")), "XX"), "last boundary"),
        (lambda: multipart_fields(b"--XX\r\n" + bytes(9000) + b"\r\n\r\n\r\n--XX--", "XX"), "blank line"),
        (lambda: multipart_fields(b"--XX\r\n\r\n--XX--", "XX"), "blank line"),
        (lambda: parts_of(part(b"1", "Content-Type: text/plain")), "no name"),
        (lambda: parts_of(part(b"1", named("a"), "Content-Transfer-Encoding: base64")), "'base64'"),
    ],
)
def test_forms_that_cannot_be_read(fields: Callable[[], Iterator[Field]], complaint: str) -> None:
    """A form that is none is the client's mistake, and the answer says which."""
    with pytest.raises(ClientError, match=complaint) as caught:
        list(fields())
    assert caught.value.status == 400


def test_fields_have_a_limit() -> None:
    """As many fields as are taken, and not one more, however they are written."""
    parts = [part(b"", named("a"))] * MAX_FIELDS
    assert len(parts_of(*parts)) == MAX_FIELDS
    assert len(list(url_encoded_fields(b"&".join([b"a"] * MAX_FIELDS)))) == MAX_FIELDS
    with pytest.raises(ClientError, match="more than 1000 fields"):
        parts_of(*parts, part(b"", named("a")))
    with pytest.raises(ClientError, match="more than 1000 fields"):
        list(url_encoded_fields(b"a&" * MAX_FIELDS))


@pytest.mark.parametrize(
    "fields",
    [
        lambda: url_encoded_fields(b"a=" + b"%41" * (3 * MIB)),
        lambda: url_encoded_fields(b"a=" + b"+" * (8 * MIB)),
        lambda: multipart_fields(b"--XX" + b" \t" * (4 * MIB), "XX"),
        lambda: multipart_fields(b"--XX\r\n" + b"\r\n--X" * MIB, "XX"),
        lambda: parts_of(part(b"1", "Content-Disposition: form-data" + ";name=" * 1000 + '"' * 1000)),
    ],
)
def test_the_work_is_linear(fields: Callable[[], Iterator[Field]]) -> None:
    """Eight megabytes that are made to be expensive take no seconds."""
    begun = time.monotonic()
    with suppress(ClientError):
        list(fields())
    assert time.monotonic() - begun < 3


def test_a_form_is_decoded_once_and_is_a_dict() -> None:
    """Whatever a handler does with a dict, it finds the fields, and the last of one name."""
    calls = []

    def fields() -> Iterator[Field]:
        calls.append(1)
        return iter([Field("a", "", b"1"), Field("q", "text/csv", b"3"), Field("a", "", b"2")])

    def form() -> Form:
        return Form({"q": b"query", "r": b"4"}, fields, lambda field: field.value)

    whole = {"q": b"3", "r": b"4", "a": b"2"}
    assert form() == whole
    assert dict(form()) == whole
    assert {**form()} == whole
    assert form().copy() == whole
    assert repr(form()) == repr(whole)
    assert sorted(form()) == ["a", "q", "r"]
    assert (len(form()), "a" in form()) == (3, True)
    assert list(form().items()) == list(whole.items())
    assert list(form().values()) == [b"3", b"4", b"2"]
    calls.clear()
    once = form()
    assert (once.get("a"), once["q"], once.pop("r"), once.setdefault("s", b"5")) == (b"2", b"3", b"4", b"5")
    assert calls == [1]


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=XX", "XX"),
        ('Multipart/Form-Data; charset=utf-8; Boundary="a b"', "a b"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("", None),
    ],
)
def test_boundaries(content_type: str, boundary: str | None) -> None:
    """The boundary is a parameter of the media type, quoted or not."""
    assert boundary_of(content_type) == boundary
