# SPDX-License-Identifier: Apache-2.0
"""The same request many times over several connections at once, and what that took."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sagemaker_inference_lite.local.client import Client, NoAnswerError, Target

_MOST_BARS = 12


class Bar(NamedTuple):
    """One bar of a histogram: so many answers took from ``low`` up to ``high`` seconds."""

    low: float
    high: float
    answers: int


class Summary(NamedTuple):
    """What a run of requests took.

    Attributes:
        requests: How many were answered.
        seconds: How long the run took.
        rate: Answers per second.
        mean: Of the answers' times, in seconds, as the next four are; 0 without answers.
        p50: Half of the answers took no longer.
        p90: Nine of ten took no longer.
        p99: 99 of 100 took no longer.
        slowest: The slowest one.
        statuses: How many answers had a status.
        failures: How many requests had no answer, by the reason.
        histogram: The answers' times.
    """

    requests: int
    seconds: float
    rate: float
    mean: float
    p50: float
    p90: float
    p99: float
    slowest: float
    statuses: Mapping[int, int]
    failures: Mapping[str, int]
    histogram: tuple[Bar, ...]


class LoadRun:
    """A number of requests, over connections that are kept, each with one request in flight.

    Args:
        where: The target.
        body: Each request's body.
        headers: Each request's headers.
        repeat: How many requests.
        concurrency: How many connections.
        timeout: How long an answer may take, in seconds.
    """

    def __init__(
        self, where: Target, body: bytes, headers: Mapping[str, str], repeat: int, concurrency: int, timeout: float
    ) -> None:
        self._where = where
        self._body = body
        self._headers = dict(headers)
        self._timeout = timeout
        self._tickets = iter(range(repeat))
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._times: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._failures: Counter[str] = Counter()
        count = min(concurrency, repeat)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        self._begun = self._ended = 0.0

    def start(self) -> None:
        """Begin."""
        self._begun = time.monotonic()
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait so long at the most; whether the run has ended."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        has_ended = not any(thread.is_alive() for thread in self._threads)
        if has_ended and not self._ended:
            self._ended = time.monotonic()
        return has_ended

    def stop(self) -> None:
        """Send nothing more; what is in flight is not waited for."""
        self._stopped.set()

    @property
    def done(self) -> int:
        """How many requests have ended, answered or not."""
        return len(self._times) + sum(self._failures.values())

    def summary(self) -> Summary:
        """What there is until now."""
        with self._lock:
            times, statuses, failures = sorted(self._times), dict(self._statuses), dict(self._failures)
        seconds = (self._ended or time.monotonic()) - self._begun
        return Summary(
            len(times),
            seconds,
            len(times) / seconds if seconds else 0.0,
            sum(times) / len(times) if times else 0.0,
            percentile(times, 50),
            percentile(times, 90),
            percentile(times, 99),
            percentile(times, 100),
            dict(sorted(statuses.items())),
            failures,
            histogram(times),
        )

    def _work(self) -> None:
        with Client(self._where, self._timeout) as client:
            while not self._stopped.is_set():
                with self._lock:
                    if next(self._tickets, None) is None:
                        return
                self._ask(client)

    def _ask(self, client: Client) -> None:
        try:
            response = client.post(self._body, self._headers)
        except NoAnswerError as error:
            with self._lock:
                self._failures[str(error)] += 1
            return
        with self._lock:
            self._times.append(response.seconds)
            self._statuses[response.status] += 1


def percentile(ordered: Sequence[float], share: float) -> float:
    """The least time that so many of a hundred do not exceed (nearest rank); 0 without any."""
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)] if ordered else 0.0


def histogram(ordered: Sequence[float]) -> tuple[Bar, ...]:
    """Bars of equal width from the fastest to one of a hundred below the slowest; the last bar has the rest too."""
    if not ordered:
        return ()
    low, high = ordered[0], percentile(ordered, 99)
    if high <= low:
        return (Bar(low, ordered[-1], len(ordered)),)
    bars = min(_MOST_BARS, max(1, len(ordered) // 2))
    width = (high - low) / bars
    counts = Counter(min(bars - 1, int((each - low) / width)) for each in ordered)
    edges = [low + number * width for number in range(bars)] + [max(high, ordered[-1])]
    return tuple(Bar(*pair, counts[number]) for number, pair in enumerate(zip(edges, edges[1:])))
