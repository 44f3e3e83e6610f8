# SPDX-License-Identifier: Apache-2.0
"""How requests reach workers and answers come back: order, sizes, batches, more and fewer workers, limits."""

from __future__ import annotations

import hashlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable

import pytest
import requests
from running_server import Server, eventually

MIB = 1 << 20


def conversation(server: Server, data: bytes, answers: int) -> bytes:
    """What a connection that sends all of this at once gets back, until so many answers have come."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(data)
        received = b""
        while received.count(b"HTTP/1.1 ") < answers or not received.endswith(b"last"):
            piece = client.recv(65536)
            if not piece:
                break
            received += piece
    return received


def post(command: str) -> bytes:
    """A request for the commanded handler, as bytes."""
    head = (
        f"POST /invocations HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: {len(command)}\r\n\r\n"
    )
    return (head + command).encode()


def test_requests_sent_in_a_row_are_answered_in_order(single: Server) -> None:
    """A client that does not wait gets the slow answer first, and those behind it then (RFC 9112, section 9.3.2)."""
    commands = ["sleep 0.3", *(f"echo {number}" for number in range(20)), "echo last"]
    received = conversation(single, b"".join(map(post, commands)), len(commands))
    bodies = [answer.rpartition(b"\r\n\r\n")[2] for answer in received.split(b"HTTP/1.1 ")[1:]]
    assert bodies == [b"slept", *(b"%d" % number for number in range(20)), b"last"]


def test_a_request_in_a_row_may_be_of_any_kind(single: Server) -> None:
    """What the management threads answer keeps its place among predictions."""
    ping = b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n"
    received = conversation(single, post("echo first") + ping + post("echo last"), 3)
    assert received.index(b"first") < received.index(b"content-length: 0") < received.index(b"last")


def test_a_client_that_goes_away_leaves_nothing(single: Server) -> None:
    """Requests whose client has gone are answered into the void, and the server goes on."""
    with socket.create_connection(("127.0.0.1", single.port)) as client:
        client.sendall(b"".join(post("sleep 0.1") for _ in range(5)))
        time.sleep(0.05)
    assert eventually(lambda: single.invoke("echo on").text == "on")


def test_a_client_that_has_gone_before_its_turn_costs_nothing(multi: Server, model: str) -> None:
    """What no worker has begun with is forgotten when its client goes."""
    multi.load(model)
    pid = multi.invoke("pid", model).text
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(multi.invoke, "sleep 1", model)
        time.sleep(0.3)
        with socket.create_connection(("127.0.0.1", multi.port)) as client:
            client.sendall(post("vanish 9").replace(b"/invocations", f"/models/{model}/invoke".encode()))
            time.sleep(0.2)
        assert slow.result().text == "slept"
    assert multi.invoke("pid", model).text == pid
    multi.unload(model)


@pytest.mark.parametrize(
    "size",
    # Around what is copied, what is sent beside its head, and what is padded (Invocation.java, Frames.java).
    [0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 65_000, 65_536, MIB - 1, MIB, MIB + 1, 20 * MIB],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_of_any_size_come_whole(single: Server, size: int, chunked: bool) -> None:
    """The handler gets what was sent, to the byte."""
    body = (b"digest " + bytes(range(256)) * (size // 256 + 1))[: size + 7]
    sent = iter([body]) if chunked else body
    answer = single.invoke(sent)
    assert answer.text == hashlib.sha256(body).hexdigest()


def test_large_answers_come_whole(single: Server) -> None:
    """An answer is not cut, however many pieces it is sent in."""
    for mebibytes in (1, 20):
        answer = single.invoke(f"answer_of {mebibytes}")
        assert answer.content == bytes(mebibytes * MIB)


def test_many_clients_at_once(single: Server) -> None:
    """Each of many clients gets its own answers."""

    def ask(number: int) -> list[str]:
        with requests.Session() as session:
            return [
                session.post(
                    single.url + "/invocations",
                    data=f"echo {number}-{again}",
                    headers={"Content-Type": "text/plain"},
                    timeout=60,
                ).text
                for again in range(20)
            ]

    with ThreadPoolExecutor(32) as pool:
        for number, answers in enumerate(pool.map(ask, range(32))):
            assert answers == [f"{number}-{again}" for again in range(20)]


def test_a_batch_that_is_not_full_waits_no_longer_than_it_may(multi: Server, model: str) -> None:
    """Requests that are fewer than a batch are answered together after max_batch_delay, and a full batch at once."""
    assert multi.load(model, batch_size=4, max_batch_delay=700).status_code == 200
    for count, at_least, at_most in ((2, 0.6, 2.0), (4, 0.0, 0.6)):
        begun = time.monotonic()
        with ThreadPoolExecutor(count) as pool:
            assert {answer.text for answer in pool.map(lambda _: multi.invoke("echo on", model), range(count))} == {
                "on"
            }
        assert at_least <= time.monotonic() - begun < at_most
    multi.unload(model)


def scale(server: Server, model: str, **workers: int) -> requests.Response:
    """PUT /models/NAME, which waits."""
    return requests.put(
        f"{server.url}/models/{model}",
        params={"synchronous": "true", **{name: str(number) for name, number in workers.items()}},
        timeout=60,
    )


def test_workers_can_be_added_and_taken_away(multi: Server, model: str) -> None:
    """Down to none and up again; without a worker a request is refused with 503, and none is lost on the way."""
    multi.load(model)
    assert scale(multi, model, min_worker=3).status_code == 200
    assert eventually(lambda: len(multi.processes()["worker"]) == 3)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(multi.invoke, "sleep 0.5", model) for _ in range(3)]
        time.sleep(0.2)
        assert scale(multi, model, min_worker=1, max_worker=1).status_code == 200
        assert [each.result().text for each in waiting] == ["slept"] * 3
    assert eventually(lambda: len(multi.processes()["worker"]) == 1)
    assert scale(multi, model, min_worker=0, max_worker=0).status_code == 200
    assert multi.invoke("echo", model).status_code == 503
    assert scale(multi, model, min_worker=1).status_code == 200
    assert multi.invoke("echo again", model).text == "again"
    multi.unload(model)


def test_a_model_registered_without_workers_gets_them_later(multi: Server, model: str) -> None:
    """initial_workers=0 registers a model that nobody can ask; PUT makes it one that can be."""
    assert multi.load(model, initial_workers=0).status_code == 200
    assert multi.invoke("echo", model).status_code == 503
    assert scale(multi, model, min_worker=2).status_code == 200
    assert [each["status"] for each in multi.described(model)["workers"]] == ["READY"] * 2
    multi.unload(model)


def test_a_model_s_own_limit_holds(multi: Server, model: str) -> None:
    """response_timeout of POST /models: the request is answered 500, and the worker is replaced."""
    assert multi.load(model, response_timeout=1).status_code == 200
    answer = multi.invoke("sleep 20", model)
    assert answer.status_code in (500, 504)
    assert eventually(lambda: multi.invoke("echo on", model).text == "on")
    multi.unload(model)


def test_a_worker_is_ready_only_when_it_is(multi: Server, model: str) -> None:
    """GET /models/NAME does not call a worker ready whose model is still loading."""
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(multi.load, model, "sleep 1.5")
        assert eventually(lambda: model in multi.listed())
        assert [each["status"] for each in multi.described(model)["workers"]] == ["UNLOADING"]
        assert load.result().status_code == 200
    assert [each["status"] for each in multi.described(model)["workers"]] == ["READY"]
    multi.unload(model)


def test_a_load_does_not_keep_others_waiting(multi: Server, model: str) -> None:
    """While one model loads, /ping and another model are answered."""
    multi.load(model)
    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(multi.load, f"{model}-{number}", "sleep 1") for number in range(4)]
        begun = time.monotonic()
        while not all(load.done() for load in loads):
            assert multi.ping() == 200
            assert multi.invoke("echo on", model).text == "on"
        assert [load.result().status_code for load in loads] == [200] * 4
        assert time.monotonic() - begun < 4
    for name in [model, *(f"{model}-{number}" for number in range(4))]:
        multi.unload(name)


def test_a_form_that_cannot_be_read_is_400(single: Server) -> None:
    """An escape that is none is the client's mistake."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = requests.post(single.url + "/invocations", data="a=%zz", headers=headers, timeout=20)
    assert answer.status_code == 400


def test_without_its_native_transport_the_server_says_so(start_single: Callable[..., Server]) -> None:
    """Netty's transport that knows unix sockets is needed; where it does not load, the start fails with the reason."""
    server = start_single(SAGEMAKER_MODEL_SERVER_VMARGS="-Dio.netty.transport.noNative=true")
    assert server.ended() != 0
    assert "The front end did not start" in server.output()
    assert "noNative" in server.output() or "native" in server.output()
