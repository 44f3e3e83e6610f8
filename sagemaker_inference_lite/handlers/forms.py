# SPDX-License-Identifier: Apache-2.0
"""Bodies that are forms: ``application/x-www-form-urlencoded`` and ``multipart/form-data`` (RFC 7578).

MMS shows a handler the fields of a form in place of a body. Which type a body has is its sender's choice, so fields are
made only for who looks at them, and no more than a stated number. The work is linear in the bytes.
"""

from __future__ import annotations

import binascii
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from sagemaker_inference_lite.content_types import OCTET_STREAM, parse_media_type
from sagemaker_inference_lite.errors import ClientError

URL_ENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

# Fields, or parts, of one form.
MAX_FIELDS = 1000

# The headers of one part.
_MAX_HEAD_BYTES = 8192

_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PARAMETER = re.compile(
    r';[ \t]*(name|filename\*?)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^";\s]*)', re.IGNORECASE | re.DOTALL
)
_BACKSLASHED = re.compile(r'\\(["\\])')


class Field(NamedTuple):
    """One field.

    Attributes:
        content_type: The bare media type of a file; empty for any other field.
        value: Of a file its bytes; of any other field text, in UTF-8 where its part names another charset.
    """

    name: str
    content_type: str
    value: bytes


class Form(dict[str, Any]):
    """The inputs of a request whose body is a form, by name; fields are decoded when it is first looked at.

    Of fields of one name the last one holds. Whoever looks at a form that cannot be read gets a ClientError.

    Args:
        others: Inputs beside the form's, which those of its fields hide.
        fields: Called for the fields, once.
        value_of: Makes a field's value.
    """

    def __init__(
        self, others: Mapping[str, Any], fields: Callable[[], Iterator[Field]], value_of: Callable[[Field], Any]
    ) -> None:
        super().__init__(others)
        self._fields: Callable[[], Iterator[Field]] | None = fields
        self._value_of = value_of
        self._types: dict[str, dict[str, str]] = {}
        self._headers: dict[str, Any] = {}

    def describe_in(self, headers: dict[str, Any]) -> None:
        """Have headers name the content types of files, as MMS shows them, from when the form is decoded."""
        self._headers = headers
        self._describe()

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        """Pickled it is the dict that it stands for: a pool of processes gets that."""
        return dict, (dict(self.items()),)

    def _describe(self) -> None:
        for name, described in self._types.items():
            self._headers.setdefault(name, described)

    def _decode(self) -> None:
        if self._fields is None:
            return
        found = list(self._fields())
        self._fields = None
        super().update((field.name, self._value_of(field)) for field in found)
        self._types = {field.name: {"content-type": field.content_type} for field in found if field.content_type}
        self._describe()


def _decoding(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Form, *arguments: Any, **keywords: Any) -> Any:
        self._decode()
        return method(self, *arguments, **keywords)

    return call


# All of a dict's, because handlers do with their inputs what one does with a dict.
for _name in (
    *("__contains__", "__delitem__", "__eq__", "__getitem__", "__ior__", "__iter__", "__len__", "__ne__", "__or__"),
    *("__repr__", "__reversed__", "__ror__", "__setitem__", "clear", "copy", "get", "items", "keys", "pop"),
    *("popitem", "setdefault", "update", "values"),
):
    setattr(Form, _name, _decoding(getattr(dict, _name)))


def boundary_of(content_type: str) -> str | None:
    """What stands between the parts of a ``multipart/form-data`` of that Content-Type header; None without one."""
    with suppress(ValueError):
        return parse_media_type(content_type).parameters.get("boundary") or None
    return None


def url_encoded_fields(body: bytes) -> Iterator[Field]:
    """The fields of an ``application/x-www-form-urlencoded`` body.

    Raises:
        ClientError: 400. It has more than MAX_FIELDS, or cannot be read; the message says why.
    """
    if body.count(b"&") >= MAX_FIELDS:
        raise _too_many()
    if _NO_ESCAPE.search(body):
        raise _unreadable("a % is not followed by two hexadecimal digits")
    for pair in body.rstrip(b"\r\n").split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            yield Field(_checked(_unescaped(name)), "", _unescaped(value).encode())


def _unescaped(text: bytes) -> str:
    # Quoted-printable is the same coding under another sign, and the one that is decoded in C.
    quoted = text.replace(b"+", b" ").replace(b"=", b"=3D").replace(b"%", b"=")
    return binascii.a2b_qp(quoted).decode(errors="replace")


def multipart_fields(body: bytes, boundary: str) -> Iterator[Field]:
    """The fields of a ``multipart/form-data`` body.

    Raises:
        ClientError: As url_encoded_fields().
    """
    if not body:
        return
    start = None
    delimiter = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary.encode()) + rb"(--|[ \t]{0,100}\r\n)")
    for count, found in enumerate(delimiter.finditer(body)):
        if start is not None:
            yield _field(body, start, found.start())
        if found[1] == b"--":
            return
        if count == MAX_FIELDS:
            raise _too_many()
        start = found.end()
    raise _unreadable("its last boundary is missing")


def _field(body: bytes, start: int, end: int) -> Field:
    blank = body.find(b"\r\n\r\n", start, min(end, start + _MAX_HEAD_BYTES))
    if blank < 0:
        raise _unreadable(f"a part has no blank line within its first {_MAX_HEAD_BYTES} bytes")
    headers = _part_headers(body[start:blank].decode(errors="replace"))
    disposition = headers.get("content-disposition", "")
    parameters = {name.lower(): _unquoted(value) for name, value in _PARAMETER.findall(disposition)}
    coding = headers.get("content-transfer-encoding", "binary").lower()
    if coding not in ("7bit", "8bit", "binary"):
        raise _unreadable(f"the Content-Transfer-Encoding of a part is {coding[:100]!r} (RFC 7578, section 4.7)")
    name, content = _checked(parameters.get("name", "")), body[blank + 4 : end]
    if "filename" in parameters or "filename*" in parameters:
        return Field(name, headers.get("content-type", OCTET_STREAM).partition(";")[0].strip(), content)
    return Field(name, "", _text(content, headers.get("content-type", "")))


def _part_headers(head: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.split("\r\n"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _unquoted(value: str) -> str:
    return _BACKSLASHED.sub(r"\1", value[1:-1]) if value.startswith('"') else value


def _text(content: bytes, content_type: str) -> bytes:
    with suppress(ValueError, LookupError):  # without a charset that is known it stays as it is
        charset = parse_media_type(content_type).charset
        return content.decode(charset).encode() if charset else content
    return content


def _checked(name: str) -> str:
    if not name:
        raise _unreadable("a field has no name")
    return name


def _too_many() -> ClientError:
    return ClientError(400, f"The form has more than {MAX_FIELDS} fields, which is the most that is taken.")


def _unreadable(why: str) -> ClientError:
    return ClientError(400, f"The form cannot be read: {why}.")
