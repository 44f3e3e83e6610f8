# SPDX-License-Identifier: Apache-2.0
"""Frames: whole, cut, broken; and that the front end finds in ours what was put into them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
from front_end_codec import (
    INT,
    LONG,
    CorruptedError,
    Failed,
    Loaded,
    decode_answer,
    decoded,
    encode_headers,
    encode_load,
    encode_requests,
    field,
    frame,
    predictions_of,
)
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.ipc import wire

LIMIT = 1 << 20
REQUEST_ID = "5c1dbc0e-8f2c-4d0d-9a0b-0f6c0a4f0f53"
INTS = st.integers(-(2**31), 2**31 - 1)

TEXTS = st.text(max_size=12)
LOADS = st.builds(
    wire.Load,
    model_name=TEXTS,
    model_path=TEXTS,
    batch_size=st.integers(1, 2**31 - 1),
    handler=TEXTS,
    gpu_id=st.none() | st.integers(0, 15),
    generation=INTS,
    generation_size=INTS,
)
PARAMETERS = st.builds(wire.Parameter, name=TEXTS, content_type=TEXTS, value=st.binary(max_size=40))
REQUESTS = st.lists(
    st.builds(
        wire.Request,
        request_id=TEXTS,
        raw_headers=st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(encode_headers),
        parameters=st.lists(PARAMETERS, max_size=3),
    ),
    min_size=1,
    max_size=3,
)
PADDINGS = st.integers(0, 30)

LOAD = wire.Load("model", "/opt/ml/model", 1, "/code/handler.py:handle", None)
ONE_REQUEST = [wire.Request(REQUEST_ID, field("Accept") + field("*/*"), [wire.Parameter("body", "text/csv", b"1,2\n")])]


def encode(message: wire.Message) -> bytes:
    """What the front end sends for a message."""
    return encode_load(message) if isinstance(message, wire.Load) else encode_requests(message)


def parse(data: bytes) -> wire.Message:
    """The message that a whole frame holds."""
    return wire.parse_message(memoryview(data))


# -- messages from the front end --------------------------------------------------------------------------------------


@given(LOADS)
def test_a_load(load: wire.Load) -> None:
    """LOAD gives what it was made of."""
    assert parse(encode_load(load)) == load


@given(REQUESTS, PADDINGS)
def test_requests(requests: list[wire.Request], padding: int) -> None:
    """REQUESTS give what they were made of, whatever their padding is."""
    assert parse(encode_requests(requests, padding)) == requests


@given(LOADS | REQUESTS, st.data())
def test_a_message_that_is_cut_short(message: wire.Message, data: st.DataObject) -> None:
    """No part of a frame is a message."""
    whole = encode(message)
    with pytest.raises(WireError):
        parse(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(REQUESTS, PADDINGS, st.data())
def test_a_message_in_two_parts(requests: list[wire.Request], padding: int, data: st.DataObject) -> None:
    """Wherever a frame is parted, either the tail is the last body, or what is said of it is that it is none."""
    whole = encode_requests(requests, padding)
    cut = data.draw(st.integers(wire.LENGTH_BYTES + 1, len(whole) - 1))
    last = requests[-1].parameters[-1].value if requests[-1].parameters else b""
    head, tail = memoryview(whole[:cut]), whole[cut:]
    if last and len(tail) == len(last):
        assert wire.parse_message(head, tail) == requests
    else:
        with pytest.raises(wire.MisplacedBodyError):
            wire.parse_message(head, tail)


def test_a_tail_is_not_copied() -> None:
    """A last body that is given apart from its frame is the value itself."""
    whole = encode_requests(ONE_REQUEST)
    tail = ONE_REQUEST[0].parameters[0].value
    message = wire.parse_message(memoryview(whole)[: -len(tail)], tail)
    assert isinstance(message, list)
    assert message[0].parameters[0].value is tail


def test_a_tail_may_follow_many_requests() -> None:
    """How many requests there can be depends on all of the bytes, not on those before the tail."""
    requests = [wire.Request("", b"", [])] * 100
    whole = encode_requests(requests)
    with pytest.raises(wire.MisplacedBodyError):
        wire.parse_message(memoryview(whole)[:100], whole[100:])
    assert parse(whole) == requests


@pytest.mark.parametrize("body_bytes", [0, wire.LARGE_BODY_BYTES - 1, wire.LARGE_BODY_BYTES, 3 * wire.LARGE_BODY_BYTES])
def test_where_a_large_body_begins(body_bytes: int) -> None:
    """The body of a single large request begins where the worker expects it; smaller ones follow their head at once."""
    body = bytes(body_bytes)
    requests = [ONE_REQUEST[0]._replace(parameters=[wire.Parameter("body", "text/csv", body)])]
    whole = encode_requests(requests)
    head = len(whole) - body_bytes
    assert head == wire.LARGE_BODY_AT if body_bytes >= wire.LARGE_BODY_BYTES else head < 200
    assert parse(whole) == requests


def test_fields_of_a_load() -> None:
    """A batch size below 1 is 1, and a GPU below 0 is none, as the front end means them."""
    whole = encode_load(LOAD)
    assert parse(whole) == LOAD
    assert parse(whole.replace(INT.pack(1) + field(LOAD.handler), INT.pack(0) + field(LOAD.handler))) == LOAD
    assert parse(whole[:-12] + INT.pack(-7) + whole[-8:]) == LOAD
    assert parse(whole[:-12] + INT.pack(3) + INT.pack(5) + INT.pack(2)) == LOAD._replace(
        gpu_id=3, generation=5, generation_size=2
    )


def test_values_are_copies() -> None:
    """What a message holds stays as it is when the buffer that it was read from is used again."""
    buffer = bytearray(encode_requests(ONE_REQUEST))
    message = wire.parse_message(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert message == ONE_REQUEST


def requests_frame(*pieces: bytes, count: int = 1) -> bytes:
    """REQUESTS of which no request need be one."""
    return frame(b"R", INT.pack(count), field(b""), *pieces)


NEGATIVE = INT.pack(-1)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "0x00"),
        (frame(), "0x00"),
        (frame(b"X"), "expected LOAD or REQUESTS, and got the byte 0x58"),
        (frame(b"L"), "ends inside a field"),
        (frame(b"L", NEGATIVE), "a field of -1 bytes"),
        (frame(b"L", field("model"), field(b"/\x80")), "not UTF-8"),
        (frame(b"L", field("model"), INT.pack(2**31 - 1)), "a field of 2147483647 bytes"),
        (encode_load(LOAD) + b"more", "4 bytes follow the last field"),
        (frame(b"R"), "ends inside a field"),
        (frame(b"R", INT.pack(0), field(b"")), "a message of 0 requests"),
        (requests_frame(count=-1), "a message of -1 requests"),
        (requests_frame(count=2**31 - 1), "a message of 2147483647 requests"),
        (frame(b"R", INT.pack(1), NEGATIVE, bytes(12)), "a field of -1 bytes"),
        (requests_frame(NEGATIVE), "a field of -1 bytes"),
        (requests_frame(field(b"\xff")), "not UTF-8"),
        (requests_frame(field("id"), NEGATIVE), "a field of -1 bytes"),
        (requests_frame(field("id"), field(b""), b"\0\0"), "ends inside a field"),
        (requests_frame(field("id"), field(b""), INT.pack(2**31 - 1)), "ends inside a field"),
        (requests_frame(field("id"), field(b""), INT.pack(1), field(b"\xc3")), "not UTF-8"),
        (requests_frame(field("id"), field(b""), INT.pack(1), field(""), field(b"\xed\xa0\x80")), "not UTF-8"),
        (requests_frame(field("id"), field(b""), INT.pack(1), field(""), field(""), NEGATIVE), "a field of -1 bytes"),
        (encode_requests(ONE_REQUEST) + b"more", "4 bytes follow the last field"),
        (encode_requests(ONE_REQUEST) * 2, "bytes follow the last field"),
    ],
)
def test_nonsense(data: bytes, complaint: str) -> None:
    """What is no message is refused, with what was found."""
    with pytest.raises(WireError) as caught:
        parse(data)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("message", [LOAD, ONE_REQUEST], ids=["load", "requests"])
def test_the_limit_is_for_all_of_a_message(message: wire.Message) -> None:
    """A message may be as large as the limit; one byte more is refused when no more than its length has come."""
    whole = encode(message)
    assert wire.frame_bytes(whole[: wire.LENGTH_BYTES], len(whole)) == len(whole)
    with pytest.raises(WireError, match=f"the limit is {len(whole) - 1}"):
        wire.frame_bytes(whole[: wire.LENGTH_BYTES], len(whole) - 1)


@pytest.mark.parametrize("length", [0, -1, -(2**63), 2**63 - 1, LIMIT])
def test_lengths_that_no_frame_has(length: int) -> None:
    """Nothing is waited for where a length is beyond the limit, or none at all."""
    with pytest.raises(WireError, match=f"a message of {length} bytes; the limit is {LIMIT}"):
        wire.frame_bytes(LONG.pack(length) + b"more", LIMIT)


@given(
    st.binary(max_size=60)
    | st.lists(INTS | st.integers(0, 9), max_size=12).map(lambda ints: frame(b"R", *map(INT.pack, ints)))
)
def test_garbage(data: bytes) -> None:
    """Bytes of any kind end in a message or in WireError."""
    with suppress(WireError):
        parse(data)


@given(LOADS | REQUESTS, st.data())
def test_damaged_frames(message: wire.Message, data: st.DataObject) -> None:
    """A frame of which a byte was changed ends in a message or in WireError."""
    damaged = bytearray(encode(message))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(WireError):
        parse(bytes(damaged))


# -- headers ----------------------------------------------------------------------------------------------------------


@given(st.dictionaries(TEXTS, TEXTS, max_size=5))
def test_headers(headers: dict[str, str]) -> None:
    """The headers of a request are those that were sent, in their order."""
    assert list(wire.parse_headers(encode_headers(headers.items())).items()) == list(headers.items())


def test_the_last_of_a_repeated_header_is_kept() -> None:
    """A header name that comes twice has the value that came last; names that differ in case are two."""
    raw = encode_headers([("a", "1"), ("a", "2"), ("A", "3")])
    assert wire.parse_headers(raw) == {"a": "2", "A": "3"}


@pytest.mark.parametrize(
    "raw",
    [b"\0", INT.pack(-1), field("name"), field("name") + INT.pack(9) + b"short", field(b"\xff") + field("1")],
)
def test_headers_that_are_none(raw: bytes) -> None:
    """Headers that cannot be read are refused."""
    with pytest.raises(WireError):
        wire.parse_headers(raw)


@given(st.binary(max_size=60))
def test_headers_of_any_kind(raw: bytes) -> None:
    """Bytes of any kind end in headers or in WireError."""
    with suppress(WireError):
        wire.parse_headers(raw)


# -- answers ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 2**31 - 1))
def test_loaded(pid: int) -> None:
    """The answer to a LOAD that succeeded carries the worker's pid."""
    assert decoded(wire.encode_loaded(pid)) == Loaded(pid)


@given(st.integers(100, 599), st.text(max_size=200), st.text(max_size=32), st.text(max_size=200))
def test_failure(status: int, sentence: str, error_id: str, trace: str) -> None:
    """A failure carries its status, its sentence, its id and the traceback that may be shown, and nothing else."""
    assert decoded(wire.encode_failure(status, sentence, error_id, trace)) == Failed(status, sentence, error_id, trace)


PREDICTIONS = st.builds(
    wire.Prediction,
    body=st.binary(max_size=60) | st.integers(0, 200_000).map(bytes),
    content_type=st.text(max_size=64),
    status=st.sampled_from([200, 204, 299, 400, 422, 500, 507, 511, 599]),
    headers=st.lists(
        st.tuples(st.text(max_size=40), st.text(max_size=200)), max_size=4, unique_by=lambda pair: pair[0]
    ),
)


@given(st.lists(PREDICTIONS, max_size=4))
def test_predictions(predictions: list[wire.Prediction]) -> None:
    """The front end finds in an answer what was put into it, in the same order."""
    assert predictions_of(wire.encode_predictions(predictions)) == [
        (each.content_type, each.status, dict(each.headers), each.body) for each in predictions
    ]


@pytest.mark.parametrize(
    "answer",
    [
        wire.encode_loaded(4711),
        wire.encode_failure(507, "no room", "0a1b", "Traceback"),
        b"".join(wire.encode_predictions([wire.Prediction(b"abc", "text/csv", 200, [("X-A", "1")])] * 2)),
    ],
    ids=["loaded", "failed", "predictions"],
)
def test_an_answer_in_any_pieces(answer: bytes) -> None:
    """The front end waits for every byte of an answer, and for none beyond."""
    assert [decode_answer(answer[:end]) for end in range(len(answer))] == [None] * len(answer)
    assert decode_answer(answer) is not None
    with pytest.raises(CorruptedError):
        decode_answer(answer[:7] + bytes([answer[7] + 1]) + answer[8:] + b"x")


@pytest.mark.parametrize("body", [b"abc", bytearray(b"abc"), memoryview(b"abc")], ids=lambda body: type(body).__name__)
def test_kinds_of_bodies(body: wire.Buffer) -> None:
    """A body may be any of Python's byte buffers, and is not copied."""
    pieces = wire.encode_predictions([wire.Prediction(body)])
    assert predictions_of(pieces)[0].body == b"abc"
    assert pieces[-1] is body


def headers_of(size: int, count: int = 3) -> list[tuple[str, str]]:
    """Headers that take exactly so many bytes of the frame."""
    short = [(f"h{place}", "v") for place in range(count - 1)]
    used = sum(8 + len(name) + len(value) for name, value in short)
    return [*short, ("last", "v" * (size - used - 8 - len("last")))]


def encoded_with(headers: Sequence[tuple[str, str]]) -> list[wire.Buffer]:
    """An answer with these headers."""
    return wire.encode_predictions([wire.Prediction(b"abc", headers=headers)])


def test_headers_have_a_limit() -> None:
    """Headers may take as much as the front end holds, and are refused beyond it with both numbers."""
    longest = headers_of(wire.MAX_HEADER_BYTES)
    assert predictions_of(encoded_with(longest))[0].headers == dict(longest)
    for headers in (headers_of(wire.MAX_HEADER_BYTES + 1), headers_of(wire.MAX_HEADER_BYTES + 1, 100)):
        with pytest.raises(ValueError, match="4097 bytes; the limit is 4096"):
            encoded_with(headers)


def test_the_largest_head_fits() -> None:
    """An answer with the largest body and the largest headers is within what the front end takes."""
    answer = b"".join(wire.encode_predictions([wire.Prediction(bytes(LIMIT), "x" * 256, 200, headers_of(4096))]))
    assert decode_answer(answer, LIMIT) is not None
