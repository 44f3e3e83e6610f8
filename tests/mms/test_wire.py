# SPDX-License-Identifier: Apache-2.0
"""Frames: whole, in pieces, broken; and that the front end's decoder survives all of ours, however it reads them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus

import pytest
from front_end_codec import (
    END,
    INT,
    CorruptedError,
    decode_response,
    decoded,
    encode_load,
    encode_predict,
    field,
    read_ends,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.mms import wire

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
    io_name=TEXTS,
)
PARAMETERS = st.builds(wire.Parameter, name=TEXTS, content_type=TEXTS, value=st.binary(max_size=40))
REQUESTS = st.builds(
    wire.Request,
    request_id=TEXTS,
    headers=st.dictionaries(TEXTS, TEXTS, max_size=3),
    parameters=st.lists(PARAMETERS, max_size=3),
)
MESSAGES = LOADS | st.lists(REQUESTS, max_size=3)

LOAD = wire.Load("model", "/opt/ml/model", 1, "/code/handler.py:handle", None, "model-1")
ONE_REQUEST = [wire.Request(REQUEST_ID, {"Accept": "text/csv"}, [wire.Parameter("body", "text/csv", b"1,2\n")])]


def encode(message: wire.Message) -> bytes:
    """What the front end sends for a message."""
    return encode_load(message) if isinstance(message, wire.Load) else encode_predict(message)


def parse(data: bytes, limit: int = LIMIT) -> wire.Message:
    """The message that the bytes hold, from a buffer that has room for more."""
    return wire.parse_message(memoryview(data + b"\xff" * 9), len(data), limit)


def needed(data: bytes, limit: int = LIMIT) -> int | None:
    """What an incomplete message says that it needs; None for a whole one."""
    try:
        parse(data, limit)
    except wire.Incomplete as incomplete:
        return incomplete.needed
    return None


# -- messages from the front end --------------------------------------------------------------------------------------


@given(MESSAGES)
def test_whole(message: wire.Message) -> None:
    """A whole frame gives the message that it was made of."""
    assert parse(encode(message)) == message


@settings(max_examples=40, deadline=None)
@given(MESSAGES)
def test_every_prefix(message: wire.Message) -> None:
    """Every part of a frame asks for more than is there, and never for more than will come."""
    frame = encode(message)
    for filled in range(len(frame)):
        wanted = needed(frame[:filled])
        assert wanted is not None
        assert filled < wanted <= len(frame)


@given(MESSAGES)
def test_waiting_for_what_is_needed(message: wire.Message) -> None:
    """Who reads as far as he is told each time, and no further, gets the message after a try for each field."""
    frame = encode(message)
    filled, tries = 0, 0
    while True:
        wanted = needed(frame[:filled])
        if wanted is None:
            break
        filled, tries = wanted, tries + 1
    assert filled == len(frame)
    assert tries <= 1 + len(frame) // 2


def test_fields_of_a_load() -> None:
    """A batch size below 1 is 1, and a GPU below 0 is none, as the front end means them."""
    frame = encode_load(LOAD)
    assert parse(frame) == LOAD
    assert parse(frame.replace(INT.pack(1) + field(LOAD.handler), INT.pack(0) + field(LOAD.handler))) == LOAD
    assert parse(frame.replace(END, INT.pack(-7))) == LOAD
    assert parse(frame.replace(END, INT.pack(3))) == LOAD._replace(gpu_id=3)


def test_the_last_of_a_repeated_header_is_kept() -> None:
    """A header name that comes twice has the value that came last."""
    head = b"I" + field(REQUEST_ID) + field("a") + field("1") + field("a") + field("2")
    (request,) = parse(head + END + END + END)  # type: ignore[misc]  # a list of requests
    assert request == wire.Request(REQUEST_ID, {"a": "2"}, [])


def test_values_are_copies() -> None:
    """What a message holds stays as it is when the buffer that it was read from is used again."""
    buffer = bytearray(encode_predict(ONE_REQUEST))
    message = wire.parse_message(buffer, len(buffer), LIMIT)
    buffer[:] = bytes(len(buffer))
    assert message == ONE_REQUEST


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"X", "a command, 'L' or 'I', and got the byte 0x58"),
        (b"\0", "0x00"),
        (b"I" + INT.pack(-2), "a field of -2 bytes"),
        (b"I" + field("id") + INT.pack(-2), "a field of -2 bytes"),
        (b"I" + field("id") + field("name") + END, "a field of -1 bytes"),
        (b"I" + field("id") + END + field("body") + field("text/csv") + END, "a field of -1 bytes"),
        (b"I" + field(b"\xff"), "not UTF-8"),
        (b"I" + field("id") + field("name") + field(b"\xc3"), "not UTF-8"),
        (b"I" + field("id") + END + field("body") + field(b"\xed\xa0\x80"), "not UTF-8"),
        (b"L" + END, "a field of -1 bytes"),
        (b"L" + field("model") + field(b"/\x80"), "not UTF-8"),
        (b"I" + END + b"I", "1 bytes follow"),
        (encode_load(LOAD) + encode_predict([]), "5 bytes follow"),
        (encode_predict([]) * 2, "5 bytes follow"),
    ],
)
def test_nonsense(data: bytes, complaint: str) -> None:
    """What is no message is refused, with what was found."""
    with pytest.raises(WireError) as caught:
        parse(data)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("message", [LOAD, ONE_REQUEST], ids=["load", "predict"])
def test_the_limit_is_for_all_of_a_message(message: wire.Message) -> None:
    """A message may be as large as the limit; one byte more is refused, whether it has come whole or not."""
    frame = encode(message)
    assert parse(frame, len(frame)) == message
    for filled in (len(frame), len(frame) - 1):
        with pytest.raises(WireError, match=f"limit is {len(frame) - 1}"):
            parse(frame[:filled], len(frame) - 1)


def test_a_length_beyond_the_limit_is_not_waited_for() -> None:
    """A field that announces more than a message may have is refused before any of it has come."""
    with pytest.raises(WireError, match="the limit is 1048576"):
        parse(b"I" + INT.pack(2**31 - 1))


@given(st.binary(max_size=60) | st.lists(INTS, max_size=12).map(lambda ints: b"I" + b"".join(map(INT.pack, ints))))
def test_garbage(data: bytes) -> None:
    """Bytes of any kind end in a message, in Incomplete or in WireError."""
    check_outcome(data)


@given(MESSAGES, st.data())
def test_damaged_frames(message: wire.Message, data: st.DataObject) -> None:
    """A frame of which a byte was changed ends in a message, in Incomplete or in WireError."""
    frame = bytearray(encode(message))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    check_outcome(bytes(frame))


def check_outcome(data: bytes) -> None:
    """Parses what may be anything: it is read, or asks for more within the limit, or is refused."""
    with suppress(WireError):
        wanted = needed(data)
        assert wanted is None or len(data) < wanted <= LIMIT


# -- answers ----------------------------------------------------------------------------------------------------------


def test_loaded() -> None:
    """The answer to a LOAD ends in the number that the front end takes for the worker's pid."""
    code, message, predictions = decoded(wire.encode_loaded(4711))
    assert (code, predictions) == (200, [])
    assert message.split("[PID]:")[1] == "4711"


@given(st.integers(100, 599), st.text(max_size=200))
def test_failure(code: int, message: str) -> None:
    """A failure carries its code and its message, and nothing else."""
    assert decoded(wire.encode_failure(code, message)) == (code, message, [])


PREDICTIONS = st.builds(
    wire.Prediction,
    request_id=st.text(max_size=60),
    body=st.binary(max_size=60) | st.integers(0, 200_000).map(bytes),
    content_type=st.text(max_size=64),
    status=st.sampled_from([200, 204, 299, 400, 422, 500, 507, 511, 599]),
    headers=st.just(()),
)
HEADERS = st.lists(st.tuples(st.text(max_size=40), st.text(max_size=200)), max_size=4, unique_by=lambda pair: pair[0])


@settings(deadline=None)
@given(st.lists(PREDICTIONS, max_size=4), HEADERS)
def test_predictions(predictions: list[wire.Prediction], headers: Sequence[tuple[str, str]]) -> None:
    """The front end finds in an answer what was put into it, and for each status a phrase that begins with its own."""
    predictions = [prediction._replace(headers=headers) for prediction in predictions]
    code, _, found = decoded(wire.encode_predictions(predictions))
    assert code == 200
    assert len(found) == len(predictions)
    for ours, theirs in zip(predictions, found):
        assert theirs[:3] == (ours.request_id, ours.content_type, ours.status)
        assert theirs[4:] == (dict(headers), ours.body)
        assert theirs.reason.rstrip(" ") == phrase_of(ours.status)


def phrase_of(status: int) -> str:
    """The phrase that goes with a status; never empty, which some clients refuse."""
    return HTTPStatus(status).phrase if status in list(HTTPStatus) else "Unknown"


@pytest.mark.parametrize("body", [b"abc", bytearray(b"abc"), memoryview(b"abc")], ids=lambda body: type(body).__name__)
def test_kinds_of_bodies(body: wire.Buffer) -> None:
    """A body may be any of Python's byte buffers."""
    (found,) = decoded(wire.encode_predictions([wire.Prediction(REQUEST_ID, body)])).predictions
    assert found.body == b"abc"


def test_headers_have_a_limit() -> None:
    """Headers may take as much as is safe, and are refused beyond it with both numbers."""
    assert decoded(answer(headers=headers_of(wire.MAX_HEADER_BYTES)))
    with pytest.raises(ValueError, match="4097 bytes; the limit is 4096"):
        answer(headers=headers_of(wire.MAX_HEADER_BYTES + 1))


# -- the front end's reads --------------------------------------------------------------------------------------------


def answer(content_type: str = "", body: int = 0, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A reply to one request, with a body of so many bytes."""
    return wire.encode_predictions([wire.Prediction(REQUEST_ID, bytes(body), content_type, 200, headers)])


def headers_of(size: int, count: int = 3) -> list[tuple[str, str]]:
    """Headers that take exactly so many bytes of the frame."""
    short = [(f"h{place}", "v") for place in range(count - 1)]
    used = 4 + sum(8 + len(name) + len(value) for name, value in short)
    return [*short, ("last", "v" * (size - used - 8 - len("last")))]


def fault(frame: bytes) -> str | None:
    """What the front end's decoder throws at the first unlucky end of a read, None where every read goes well."""
    view = memoryview(frame)
    ends = read_ends(len(frame))
    try:
        assert all(decode_response(view[:end]) is None for end in ends[:-1])
        assert decode_response(view) is not None
    except CorruptedError as error:
        return str(error)
    return None


def without_padding(frame: bytes) -> bytes:
    """The same answer with an empty message."""
    (length,) = INT.unpack_from(frame, 4)
    return frame[:4] + INT.pack(0) + frame[8 + length :]


def header_sets() -> Iterator[list[tuple[str, str]]]:
    """Headers of many sizes up to the limit; few, and more."""
    for size, count in itertools.product((40, 200, 600, 1000, 4000, wire.MAX_HEADER_BYTES), (1, 3)):
        yield headers_of(size, count)
    yield headers_of(wire.MAX_HEADER_BYTES, 100)


@pytest.mark.parametrize("body", [0, 1, 10, 100, 700, 5_000, 20_000, 65_536, 200_000])
def test_no_read_ends_inside_a_status(body: int) -> None:
    """However the front end's read buffer has adapted, no read ends where its decoder cannot bear it."""
    faults = {length: fault(answer("x" * length, body)) for length in range(65)}
    assert not {length: found for length, found in faults.items() if found}


@pytest.mark.parametrize("body", [0, 100, 5_000, 200_000])
def test_no_read_ends_inside_headers(body: int) -> None:
    """The same with headers, of any size up to the limit."""
    for headers, length in itertools.product(header_sets(), (0, 9, 16, 24, 33, 64)):
        assert fault(answer("x" * length, body, headers)) is None


def test_without_the_padding_reads_do_end_there() -> None:
    """The padding is needed: without it, reads end inside or just before some statuses and headers."""
    bare = [fault(without_padding(answer("x" * length))) for length in range(65)]
    assert 10 < len([found for found in bare if found]) < 65
    for size in (600, wire.MAX_HEADER_BYTES):
        assert fault(without_padding(answer("text/csv", 10, headers_of(size))))


@pytest.mark.parametrize("body", [0, 3, 10, 100, 700, 20_000])
def test_no_read_ends_inside_a_status_of_a_batch(body: int) -> None:
    """In the answer to a batch every status is safe from the ends of reads, not only the first."""
    for length in range(65):
        batch = [wire.Prediction(REQUEST_ID, bytes(body + place), "x" * length) for place in range(4)]
        assert fault(wire.encode_predictions(batch)) is None


def test_no_read_ends_inside_headers_of_a_batch() -> None:
    """The headers of a batch's first prediction are safe whatever follows, and all are where they take little room."""
    first = [wire.Prediction(REQUEST_ID, bytes(9), headers=headers_of(wire.MAX_HEADER_BYTES))]
    assert fault(wire.encode_predictions([*first, wire.Prediction(REQUEST_ID, bytes(70_000))])) is None
    assert fault(wire.encode_predictions([wire.Prediction(REQUEST_ID, bytes(99), headers=headers_of(500))] * 8)) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(PREDICTIONS, max_size=5))
def test_no_read_ends_inside_a_status_of_any_answer(predictions: list[wire.Prediction]) -> None:
    """The same for ids, types and bodies of any size."""
    assert fault(wire.encode_predictions(predictions)) is None


@pytest.mark.parametrize("frame", [wire.encode_loaded(2**22), wire.encode_failure(507, "x" * 3000)], ids=["ok", "507"])
def test_answers_without_predictions_are_safe(frame: bytes) -> None:
    """The answers to a LOAD have no fields that a read must not end in."""
    assert fault(frame) is None


def test_padding_is_small_where_it_can_be() -> None:
    """An answer without headers has less than 16 bytes of padding."""
    for length in range(65):
        frame = answer("x" * length)
        assert len(frame) - len(without_padding(frame)) < 16
