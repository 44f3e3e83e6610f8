# SPDX-License-Identifier: Apache-2.0
"""Media types: their names, their grammar, and the choice of one for a response (RFC 9110, sections 8.3.1 and 12.5.1).

What is pure here is cached, because clients send the same few headers again and again. The caches are small and
bounded: a client that sends ever new headers only makes its own requests slower.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from sagemaker_inference_lite.errors import NotAcceptableError

ANY = "*/*"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
CSV = "text/csv"
JPEG = "image/jpeg"
JSON = "application/json"
JSON_LINES = "application/jsonlines"
NPY = "application/x-npy"
NPZ = "application/x-npz"
OCTET_STREAM = "application/octet-stream"
PARQUET = "application/vnd.apache.parquet"
PNG = "image/png"
TEXT_PLAIN = "text/plain"
X_JSON_LINES = "application/x-jsonlines"
X_PARQUET = "application/x-parquet"

# Headers are quoted in error messages; one of several kilobytes would bury what the message says.
MAX_QUOTED = 200

_CACHED_HEADERS = 256

# RFC 9110, sections 5.6.2 and 5.6.4. No control character passes, so a media type that was parsed cannot break the
# line of a header that it is written into. Each expression reads any text in linear time.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED_STRING = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*"'
_TYPE = re.compile(f"({_TOKEN})/({_TOKEN})")
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*(?:({_TOKEN})=({_TOKEN}|{_QUOTED_STRING}))?")
_ELEMENT = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.?)*(?:"|$))+', re.DOTALL)
_LONE_STAR = re.compile(r"\*[ \t]*(?:;|$)")
_WEIGHT = re.compile(r"0?\.[0-9]+|0(?:\.[0-9]*)?|1(?:\.0*)?")


class MediaType(NamedTuple):
    """A media type, taken apart.

    Attributes:
        type: In lower case, such as "text".
        subtype: In lower case, such as "csv".
        parameters: Read-only; names in lower case, values as they were sent, without quotes. Where a name comes
            twice, the first one holds.
    """

    type: str
    subtype: str
    parameters: Mapping[str, str]

    @property
    def essence(self) -> str:
        """The type without its parameters, such as "text/csv"."""
        return f"{self.type}/{self.subtype}"

    @property
    def charset(self) -> str | None:
        """The charset parameter in lower case, since its value has no case (RFC 9110, section 8.3.2); None without."""
        charset = self.parameters.get("charset")
        return None if charset is None else charset.lower()

    def __str__(self) -> str:
        return self.essence + "".join(f"; {name}={_written(value)}" for name, value in self.parameters.items())


@lru_cache(_CACHED_HEADERS)
def parse_media_type(value: str) -> MediaType:
    """Takes a media type apart, as it stands in a Content-Type header (RFC 9110, section 8.3.1).

    Args:
        value: Such as ``text/csv; charset=utf-8; header="present"``.

    Returns:
        Its parts.

    Raises:
        ValueError: It is not a media type; the message quotes it.
    """
    text = value.strip(" \t")
    found = _TYPE.match(text)
    if found is None:
        raise _malformed(value)
    return MediaType(found[1].lower(), found[2].lower(), _parameters(text, found.end(), value))


def choose(accept_header: str | None, offered: Sequence[str]) -> str:
    """Chooses the type of a response (RFC 9110, section 12.5.1).

    The most specific range that matches a type gives it its weight, and weight 0 excludes it. Of what is left the
    highest weight wins; among equals the one that the client named first, and among those the one offered first.
    A range with parameters matches only types that have them, but charset=utf-8 matches all, because text is
    always written in UTF-8. Elements that are malformed are passed over, and a header of nothing else is disregarded.

    Args:
        accept_header: The Accept header. None, or an empty one, accepts everything.
        offered: The types that can be made, the preferred one first; at least one.

    Returns:
        One of offered, as it is written there.

    Raises:
        NotAcceptableError: None of offered is acceptable; the message lists them.
    """
    chosen = _choose(accept_header or ANY, tuple(offered))
    if chosen is None:
        raise NotAcceptableError(
            f"None of the accepted types can be made: Accept is {str(accept_header)[:MAX_QUOTED]!r}, "
            f"and what can be made is {', '.join(offered)}."
        )
    return chosen


@lru_cache(_CACHED_HEADERS)
def preferred(accept_header: str | None) -> str | None:
    """The one type that an Accept header asks for before all others.

    Returns:
        The type without a wildcard that has the highest weight, the first of several; None where there is none.
    """
    named = [each for each in _ranges(accept_header or ANY) if "*" not in each.media_type[:2] and each.weight > 0]
    return str(max(named, key=lambda each: each.weight).media_type) if named else None


@lru_cache(_CACHED_HEADERS)
def accepts_anything(accept_header: str | None) -> bool:
    """Whether an Accept header leaves the choice to the server: it is missing or empty, or names only ``*/*``."""
    return all(each.media_type.essence == ANY and each.weight > 0 for each in _ranges(accept_header or ANY))


class _Range(NamedTuple):
    """An element of an Accept header."""

    media_type: MediaType
    weight: float
    place: int

    @property
    def specificity(self) -> tuple[bool, bool, int]:
        kind, subtype, parameters = self.media_type
        return kind != "*", subtype != "*", len(parameters)

    def matches(self, offer: MediaType) -> bool:
        kind, subtype, parameters = self.media_type
        return (
            kind in ("*", offer.type)
            and subtype in ("*", offer.subtype)
            and all(_has(offer, name, value) for name, value in parameters.items())
        )


def _has(offer: MediaType, name: str, value: str) -> bool:
    if name == "charset":
        return value.lower() in ("utf-8", "utf8", offer.charset)
    return offer.parameters.get(name) == value


@lru_cache(_CACHED_HEADERS)
def _choose(accept_header: str, offered: tuple[str, ...]) -> str | None:
    ranges = _ranges(accept_header)
    ratings = {offer: _rating(parse_media_type(offer), ranges) for offer in offered}
    best = max(offered, key=lambda offer: ratings[offer])
    return best if ratings[best][0] > 0 else None


def _rating(offer: MediaType, ranges: tuple[_Range, ...]) -> tuple[float, int]:
    """Weight and minus the place of the range that decides about a type: the higher, the better."""
    matching = [each for each in ranges if each.matches(offer)]
    if not matching:
        return 0.0, 0
    decisive = max(matching, key=lambda each: each.specificity)
    return decisive.weight, -decisive.place


def _ranges(accept_header: str) -> tuple[_Range, ...]:
    # An empty list is allowed and refuses nothing (RFC 9110, sections 5.6.1.2 and 12.5.1).
    elements = filter(None, (element.strip(" \t") for element in _ELEMENT.findall(accept_header)))
    ranges = [_range(element, place) for place, element in enumerate(elements)]
    return tuple(each for each in ranges if each is not None) or (_Range(parse_media_type(ANY), 1.0, 0),)


def _range(element: str, place: int) -> _Range | None:
    # Java's HttpURLConnection ends its Accept header with "*; q=.2, */*; q=.2".
    try:
        media_type = parse_media_type("*/" + element if _LONE_STAR.match(element) else element)
    except ValueError:
        return None
    weight = media_type.parameters.get("q", "1")
    if not _WEIGHT.fullmatch(weight) or (media_type.type == "*" and media_type.subtype != "*"):
        return None
    return _Range(_without_weight(media_type), float(weight), place)


def _without_weight(media_type: MediaType) -> MediaType:
    """The type with the parameters before "q"; those behind it extend the header and not the type (RFC 7231)."""
    names = list(media_type.parameters)
    kept = names[: names.index("q")] if "q" in names else names
    return media_type._replace(parameters=MappingProxyType({name: media_type.parameters[name] for name in kept}))


def _parameters(text: str, position: int, value: str) -> Mapping[str, str]:
    parameters: dict[str, str] = {}
    while position < len(text):
        found = _PARAMETER.match(text, position)
        if found is None:
            raise _malformed(value)
        if found[1]:
            parameters.setdefault(found[1].lower(), _unquoted(found[2]))
        position = found.end()
    return MappingProxyType(parameters)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _written(value: str) -> str:
    return value if re.fullmatch(_TOKEN, value) else '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def _malformed(value: str) -> ValueError:
    return ValueError(f"{value[:MAX_QUOTED]!r} is not a media type; expected type/subtype; name=value")
