# SPDX-License-Identifier: Apache-2.0
"""Bodies that are made to cost something, and clients that send or take nothing: others are served all the while."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Callable

import pytest
import requests
from pinging import others_are_served
from raw_http import LAST, command, connected, conversation, post, received, statuses
from running_server import Server, eventually

pytestmark = pytest.mark.once

MIB = 1 << 20
URL_ENCODED = "Content-Type: application/x-www-form-urlencoded"
MULTIPART = "Content-Type: multipart/form-data; boundary=XX"


def workers(server: Server) -> set[int]:
    """The pids of all workers."""
    return {worker.pid for worker in server.processes()["worker"]}


FORMS = {
    "8 MB of fields": (URL_ENCODED, b"a&" * 4_000_000),
    "a million fields": (URL_ENCODED, b"a&" * 1_000_000),
    "100,000 parts": (
        MULTIPART,
        b'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 100_000 + b"--XX--\r\n",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_of_many_fields_is_400(single: Server, form: str) -> None:
    """A handler that looks for its body finds a form that has too many fields, and its client is told."""
    content_type, body = FORMS[form]
    headers = dict([content_type.split(": ")])
    before = workers(single)
    with others_are_served(single):
        answer = single.invoke(body, headers=headers)
    assert answer.status_code == 400
    assert "more than 1000 fields" in answer.json()["error"]["message"]
    assert workers(single) == before


def chunks(body: bytes) -> bytes:
    """A request whose body comes in chunks, which are given."""
    return post("Transfer-Encoding: chunked", body=body + b"0\r\n\r\n")


def test_more_chunks_than_are_taken_are_400(single: Server) -> None:
    """A body may come in 65,536 chunks of one byte, and in no more."""
    most = b"1\r\ne\r\n1\r\nc\r\n1\r\nh\r\n1\r\no\r\n1\r\n \r\n" + b"1\r\n\0\r\n" * (65_536 - 5)
    assert statuses(conversation(single, chunks(most), LAST)) == [200, 200]
    answers = conversation(single, chunks(most + b"1\r\n\0\r\n"), LAST)
    assert statuses(answers) == [400]
    assert b"more than 65536 chunks" in answers


def test_millions_of_chunks_cost_nothing(single: Server) -> None:
    """Two million chunks of one byte are refused at the first that is too much; nobody else notices."""
    with others_are_served(single), connected(single) as client, suppress(ConnectionError):
        # A reset is what a client may get that goes on sending long after it was refused.
        client.sendall(chunks(b"1\r\nx\r\n" * 2_000_000))
        assert statuses(received(client)) == [400]


@pytest.mark.parametrize("chunk_bytes", [100, 3000, 20_000, 70_000])
def test_chunks_of_any_size_make_a_body(single: Server, chunk_bytes: int) -> None:
    """Small chunks are put together and large ones are not copied: the handler gets what was sent."""
    body = b"size".ljust(4 * MIB, b"\0")
    pieces = (body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes))
    assert single.invoke(pieces).text == str(len(body))


def test_a_body_that_comes_byte_by_byte_holds_what_it_has(single: Server) -> None:
    """A body in the smallest pieces of a connection is put together; each byte is looked at once."""
    body = b"digest " + bytes(range(256)) * 8
    whole = single.invoke(body).text
    with connected(single) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(post(f"Content-Length: {len(body)}", "Connection: close"))
        for byte in body:
            client.sendall(bytes([byte]))
        assert received(client).endswith(whole.encode())


@contextmanager
def silent_uploads(server: Server, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that announce 25 MB, send a beginning, and then nothing."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server)) for _ in range(count)]
        for client in clients:
            client.sendall(post(f"Content-Length: {25 * MIB}", body=sent))
        yield clients


def test_silent_uploads_refuse_nobody(single: Server) -> None:
    """Room is taken by bytes that have come: who announces 25 MB and sends nothing takes none."""
    with silent_uploads(single, 40), others_are_served(single):
        for _ in range(3):
            assert single.invoke(b"size".ljust(20 * MIB, b"\0")).text == str(20 * MIB)


def test_uploads_that_stop_make_room(hurried: Server) -> None:
    """Uploads that have taken all room are ended with 408 soon, and small requests find room meanwhile."""
    large = b"size".ljust(24 * MIB, b"\0")
    with silent_uploads(hurried, 2, bytes(15 * MIB)) as clients, others_are_served(hurried):
        refused = hurried.invoke(large)
        answers = [received(client) for client in clients]
    assert refused.status_code == 503
    assert "no room for this body" in refused.json()["message"]
    assert [statuses(answer) for answer in answers] == [[408], [408]]
    assert eventually(lambda: hurried.invoke(large).text == str(len(large)))


def test_an_upload_that_stops_is_408(hurried: Server) -> None:
    """After a while without a byte the client is told how far it came, and the connection is closed."""
    with silent_uploads(hurried, 1, b"x" * 1000) as (client,):
        begun = time.monotonic()
        answer = received(client)
    assert 1.5 < time.monotonic() - begun < 6
    assert statuses(answer) == [408]
    assert b"stopped after 1000 bytes" in answer


def test_an_upload_that_goes_on_is_waited_for(hurried: Server) -> None:
    """However long it takes, an upload that makes progress is taken."""
    with connected(hurried) as client:
        client.sendall(post("Content-Length: 7", "Connection: close"))
        for byte in b"echo on":
            client.sendall(bytes([byte]))
            time.sleep(0.5)
        assert received(client).endswith(b"\r\n\r\non")


def test_a_refused_upload_that_stops_is_closed(hurried: Server) -> None:
    """A client that has its 413 and neither sends on nor goes is not kept."""
    with connected(hurried) as client:
        client.sendall(post(f"Content-Length: {26 * MIB}", body=b"x"))
        assert statuses(received(client)) == [413]


def test_an_upload_that_stops_does_not_hold_up_the_stop(start_single: Callable[..., Server]) -> None:
    """At SIGTERM an upload that has stopped is waited for a few seconds, and not as long as requests may take."""
    server = start_single(SAGEMAKER_MODEL_SERVER_WORKERS="1").ready()
    with connected(server) as client:
        client.sendall(post(f"Content-Length: {25 * MIB}", "Expect: 100-continue"))
        assert statuses(client.recv(100)) == [100]
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 18
        assert statuses(received(client)) == [408]


@contextmanager
def not_reading(server: Server, count: int, mebibytes: int) -> Iterator[list[socket.socket]]:
    """Clients that ask for so much and do not read it."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server)) for _ in range(count)]
        for client in clients:
            client.sendall(command(f"answer_of {mebibytes}"))
        yield clients


def test_clients_that_do_not_read_cost_no_worker(hurried: Server) -> None:
    """Thirty clients that ask for 20 MB and read nothing: no 500, no worker lost, others served throughout."""
    before = workers(hurried)
    since = len(hurried.output())
    with others_are_served(hurried, 15), not_reading(hurried, 30, 20) as clients:
        beginnings = [client.recv(4096) for client in clients]
        # Each of them is given up in the end, and then there is room for who reads.
        assert eventually(lambda: len(hurried.invoke("answer_of 20").content) == 20 * MIB)
    assert {status for each in beginnings for status in statuses(each)} == {200, 503}
    assert any(b"no room for an answer" in each for each in beginnings)
    assert workers(hurried) == before
    output = hurried.output()[since:]
    assert "a client that takes nothing of its answer is given up" in output
    assert '" 500 ' not in output
    assert "is lost" not in output


def test_a_slow_reader_has_its_answer(hurried: Server) -> None:
    """A client that takes its answer bit by bit is waited for, longer than one that takes nothing."""
    with connected(hurried) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.sendall(command("answer_of 8", "Connection: close"))
        count = 0
        for _ in range(16):
            count += len(client.recv(1 << 16))
            time.sleep(0.3)
        count += len(received(client))
    assert count > 8 * MIB


def test_small_answers_that_are_not_read_are_bounded(hurried: Server) -> None:
    """A client that asks again and again and does not read is not answered again and again: it waits for itself."""
    (java,) = hurried.processes()["java"]
    before = java.memory_info().rss
    with others_are_served(hurried), connected(hurried) as client:
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sendall(command("echo " + "x" * 100) * 100_000)
        assert java.memory_info().rss - before < 60 * MIB


def test_requests_sent_ahead_are_all_answered(hurried: Server) -> None:
    """A client may send thousands of requests before it reads an answer; what waits does not grow with each of them."""
    count = 30_000
    with connected(hurried) as client, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(client.sendall, command("echo on") * count + command("echo end", "Connection: close"))
        time.sleep(1)
        answers = received(client)
        sent.result()
    assert statuses(answers) == [200] * (count + 1)


def test_a_batch_that_finds_no_room_is_answered(start: Callable[..., Server]) -> None:
    """Where the answers of a batch find no room, each of its clients is told so."""
    server = start(
        SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_VMARGS="-XX:MaxDirectMemorySize=32m -Xmx128m"
    ).ready()
    assert server.load("m", batch_size=2, max_batch_delay=500).status_code == 200
    pid = server.invoke("pid", "m").text
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server)) for _ in range(2)]
        for client in clients:
            client.sendall(command("answer_of 20").replace(b"/invocations", b"/models/m/invoke"))
        assert [statuses(received(client)) for client in clients] == [[503], [503]]
    assert server.invoke("pid", "m").text == pid
    assert requests.get(server.url + "/ping", timeout=5).status_code == 200
    assert server.stop() == 0


def test_memory_at_its_end_costs_requests_and_no_worker(start_single: Callable[..., Server]) -> None:
    """With hardly any memory outside the heap, requests are refused with 503, and the worker is the same one after."""
    server = start_single(
        SAGEMAKER_MODEL_SERVER_WORKERS="1", SAGEMAKER_MODEL_SERVER_VMARGS="-XX:MaxDirectMemorySize=9m"
    ).ready()
    before = workers(server)

    def ask(number: int) -> int:
        body = ("answer_of 3" if number % 3 else "echo on").encode()
        return server.invoke(body if number % 2 else body.ljust(MIB, b"\0")).status_code

    with ThreadPoolExecutor(12) as pool:
        found = set(pool.map(ask, range(120)))
    assert found <= {200, 503}
    assert 200 in found
    assert server.invoke("echo on").text == "on"
    assert workers(server) == before
    assert "is lost" not in server.output()


def test_connections_that_end_in_a_head_leave_nothing(start_single: Callable[..., Server]) -> None:
    """What thousands of clients have begun to say before they went takes no room from those that follow."""
    server = start_single(SAGEMAKER_MODEL_SERVER_VMARGS="-XX:MaxDirectMemorySize=16m").ready()
    for _ in range(5000):
        with connected(server) as client:
            client.sendall(b"G")
    answer = server.invoke(b"size " + bytes(1 << 20))
    assert (answer.status_code, answer.text) == (200, str((1 << 20) + 5))
    assert server.stop() == 0
