# SPDX-License-Identifier: Apache-2.0
"""Media types and the choice among them, by RFC 9110."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_inference_lite import content_types
from sagemaker_inference_lite.content_types import CSV, JSON, NPY, accepts_anything, choose, parse_media_type, preferred
from sagemaker_inference_lite.errors import NotAcceptableError

OFFERED = (JSON, CSV, NPY)


def test_constants_are_media_types() -> None:
    """Each constant is a media type in its plain form."""
    for name in ("ANY", "CSV", "JSON", "NPY", "OCTET_STREAM", "TEXT_PLAIN"):
        value = getattr(content_types, name)
        assert parse_media_type(value).essence == value


@pytest.mark.parametrize(
    ("value", "essence", "parameters"),
    [
        ("text/csv", "text/csv", {}),
        ("Text/CSV", "text/csv", {}),
        ("  text/csv\t", "text/csv", {}),
        ("text/csv;charset=utf-8", "text/csv", {"charset": "utf-8"}),
        ("text/csv ; Charset=UTF-8 ; header=present", "text/csv", {"charset": "UTF-8", "header": "present"}),
        ('text/csv; charset="utf-8"', "text/csv", {"charset": "utf-8"}),
        (r'text/csv; name="a, \"b\"; c\\"', "text/csv", {"name": 'a, "b"; c\\'}),
        ("text/csv; charset=a; charset=b", "text/csv", {"charset": "a"}),
        ("text/csv;", "text/csv", {}),
        ("text/csv; ; header=present", "text/csv", {"header": "present"}),
        ("application/vnd.acme+json", "application/vnd.acme+json", {}),
        ('text/csv; name=""', "text/csv", {"name": ""}),
    ],
)
def test_media_types_are_taken_apart(value: str, essence: str, parameters: dict[str, str]) -> None:
    """Types and parameter names have no case, values may be quoted, space stands around semicolons (section 8.3.1)."""
    media_type = parse_media_type(value)
    assert media_type.essence == essence
    assert media_type.parameters == parameters


@pytest.mark.parametrize(
    "value",
    ["", "csv", "text/", "/csv", "text/csv/x", "text/csv header=present", "text/csv; charset", "text/csv; charset =a"]
    + [
        "text/csv, text/csv",
        'text/csv; charset="a',
        "text/csv; a=b\r\nX: y",
        'text/csv; a="b\r\n"',
        "text /csv",
        "té/x",
    ],
)
def test_what_is_no_media_type_is_quoted(value: str) -> None:
    """A value that the grammar does not allow raises ValueError and is quoted in it."""
    with pytest.raises(ValueError, match="is not a media type") as caught:
        parse_media_type(value)
    assert repr(value) in str(caught.value)


def test_errors_do_not_repeat_long_headers() -> None:
    """Of a long header an error quotes the beginning."""
    with pytest.raises(ValueError, match="is not a media type") as caught:
        parse_media_type("x" * 8000)
    assert len(str(caught.value)) < 400


def test_charset_has_no_case() -> None:
    """The charset's name is given in lower case (section 8.3.2), and as None where there is none."""
    assert parse_media_type("text/csv; charset=UTF-8").charset == "utf-8"
    assert parse_media_type("text/csv").charset is None


def test_parameters_cannot_be_changed() -> None:
    """A cached media type is the same object for all who ask, so nobody can change it."""
    assert parse_media_type("text/csv; a=b") is parse_media_type("text/csv; a=b")
    with pytest.raises(TypeError):
        parse_media_type("text/csv; a=b").parameters["a"] = "c"  # type: ignore[index] # what must fail


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20))
def test_media_types_are_written_as_they_are_read(value: str) -> None:
    """str() of a media type is a media type that is equal to it, whatever its parameters hold."""
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    media_type = parse_media_type(f"text/csv; name={quoted}")
    assert media_type.parameters["name"] == value
    assert parse_media_type(str(media_type)) == media_type


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON),
        ("", JSON),
        (" , ,", JSON),
        ("*/*", JSON),
        ("text/csv", CSV),
        ("TEXT/CSV", CSV),
        ("text/*", CSV),
        ("application/*", JSON),
        ("application/x-npy, application/json", NPY),  # the client's order
        ("application/json;q=0.5, text/csv", CSV),
        ("application/json; q=0.5, text/csv; q=0.4", JSON),
        ("application/json;Q=0.1, text/csv;q=0.2", CSV),
        ("*/*;q=0.1, text/csv", CSV),
        ("application/json;q=0, */*", CSV),  # 0 excludes, and the more specific range decides
        ("*/*, application/json;q=0, text/*;q=0", NPY),
        ("text/*;q=0.9, text/csv;q=0.1, application/x-npy;q=0.5", NPY),
        ("text/csv; charset=utf-8", CSV),
        ("text/csv; charset=UTF8; q=0.5, application/x-npy; q=0.4", CSV),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", JSON),  # Java's HttpURLConnection
        ("garbage, text/csv", CSV),
        ("text/csv;q=2, application/x-npy;q=0.1", NPY),  # a malformed weight
        ("*/csv, application/x-npy;q=0.1", NPY),
        ("garbage", JSON),
        ('text/plain; a="x, application/x-npy", text/csv', CSV),  # a comma within quotes separates nothing
        ("text/csv;q=1.000;ext=1", CSV),
    ],
)
def test_the_choice_follows_weight_specificity_and_order(accept: str | None, chosen: str) -> None:
    """The highest weight wins, the most specific range sets it, the client's order and then ours decide ties."""
    assert choose(accept, OFFERED) == chosen


@pytest.mark.parametrize(
    "accept",
    [
        "image/png",
        "*/*;q=0",
        "text/csv; charset=iso-8859-1",
        "text/csv; version=2",
        "application/json;q=0.0, text/plain",
    ],
)
def test_what_cannot_be_made_is_406_with_the_offer(accept: str) -> None:
    """Where nothing offered is acceptable, the error has status 406, quotes the header and lists what there is."""
    with pytest.raises(NotAcceptableError) as caught:
        choose(accept, OFFERED)
    assert caught.value.status == 406
    assert repr(accept) in caught.value.message
    assert all(offer in caught.value.message for offer in OFFERED)


def test_parameters_of_a_range_choose_among_offers() -> None:
    """A range with a parameter matches only the offer that has it, and goes before the one without (section 12.5.1)."""
    offered = ("text/csv", "text/csv; header=present")
    assert choose("text/csv; header=present, text/csv", offered) == "text/csv; header=present"
    assert choose("text/csv; header=present; q=0, text/csv", offered) == "text/csv"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, None),
        ("*/*", None),
        ("text/*", None),
        ("image/png", "image/png"),
        ("image/png;q=0.5, image/gif", "image/gif"),
        ("image/png, image/gif", "image/png"),
        ("*/*, image/png;q=0.1", "image/png"),
        ("image/png;q=0", None),
        ('text/csv; charset="utf-8"; q=0.3', "text/csv; charset=utf-8"),
    ],
)
def test_preferred_is_the_first_named_type_of_highest_weight(accept: str | None, expected: str | None) -> None:
    """The preferred type is one without a wildcard, with its parameters but without its weight."""
    assert preferred(accept) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [(None, True), ("", True), ("*/*", True), (" */*;q=0.8 ", True), ("*", True), ("?", True)]
    + [("*/*;q=0", False), ("text/*", False), ("text/csv, */*", False)],
)
def test_a_header_that_names_only_any_type_leaves_the_choice(accept: str | None, expected: bool) -> None:
    """Without a header, or with one that names nothing but */*, the server may choose."""
    assert accepts_anything(accept) is expected


@given(st.text(st.sampled_from('ab/*;,q=01. "\\\t\r\nü'), max_size=60))
def test_any_header_gives_an_offer_or_406(accept: str) -> None:
    """No Accept header, however malformed, does anything but choose one of the offers or raise NotAcceptableError."""
    preferred(accept)
    accepts_anything(accept)
    with contextlib.suppress(NotAcceptableError):
        assert choose(accept, OFFERED) in OFFERED


@pytest.mark.parametrize(
    "header",
    [
        '"' * 100_000,
        '"\\' * 50_000,
        "a/b" + ";" * 100_000 + "x",
        "a/b" + "; \t" * 50_000 + "x",
        "a/b" + " " * 100_000 + "x",
    ]
    + ['a/b; c="' + "\\" * 99_999, "a" * 100_000, "a/" * 50_000, 'a/b; c="' + "d" * 100_000],
)
def test_hostile_headers_take_linear_time(header: str) -> None:
    """Headers made to send a parser backwards are read about as fast as others of their length."""
    start = time.monotonic()
    preferred(header)
    with pytest.raises(ValueError, match="is not a media type"):
        parse_media_type(header)
    assert time.monotonic() - start < 2
