# SPDX-License-Identifier: Apache-2.0
"""The charsets that text may come in (RFC 9110, section 8.3.2)."""

from __future__ import annotations

from sagemaker_inference_lite.content_types import MAX_QUOTED
from sagemaker_inference_lite.errors import ClientError, UnsupportedMediaTypeError

_BOM = b"\xef\xbb\xbf"

# The names of the IANA's registry that CSV comes in, all of which Python knows. Others are not looked up: Python has
# codecs that take quadratic time ("idna"), and remembers every name that it was ever asked for.
_CHARSETS = frozenset(
    "utf-8 us-ascii iso-8859-1 iso-8859-2 iso-8859-15 windows-1250 windows-1251 windows-1252 utf-16 utf-16le "
    "utf-16be koi8-r shift_jis euc-jp iso-2022-jp euc-kr gb2312 gbk gb18030 big5".split()
)
_CHARSETS_BY_OTHER_NAMES = {"utf8": "utf-8", "ascii": "us-ascii", "latin-1": "iso-8859-1", "latin1": "iso-8859-1"}


def without_bom(body: bytes) -> bytes:
    """The body without UTF-8's byte order mark, which says nothing."""
    return body[len(_BOM) :] if body.startswith(_BOM) else body


def known_charset(name: str | None) -> str:
    """The charset of a media type by its registered name, UTF-8 where it names none.

    Raises:
        UnsupportedMediaTypeError: It is none that is known (RFC 9110, section 15.5.16, counts it as part of the type).
    """
    asked = name or "utf-8"
    charset = _CHARSETS_BY_OTHER_NAMES.get(asked, asked)
    if charset not in _CHARSETS:
        raise UnsupportedMediaTypeError(
            f"The charset {charset[:MAX_QUOTED]!r} is not supported; expected one of {', '.join(sorted(_CHARSETS))}."
        )
    return charset


def text_of(body: bytes, charset: str) -> str:
    """The body's text.

    Raises:
        ClientError: 400. It is not text in that charset; the message says where.
    """
    try:
        return body.decode(charset)
    except UnicodeDecodeError as error:
        raise ClientError(400, f"The body is not text in {charset}: {error.reason} at byte {error.start}.") from error
