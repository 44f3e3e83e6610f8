# SPDX-License-Identifier: Apache-2.0
"""What a server tells a program that runs it and wants to show what happens: typed events."""

from __future__ import annotations

from typing import Callable, NamedTuple, Union


class Listening(NamedTuple):
    """The server answers at a URL, though perhaps with 503.

    Attributes:
        url: Such as "http://127.0.0.1:8080".
    """

    url: str


class Ready(NamedTuple):
    """The server listens and can be asked: with one model, that is loaded. /ping is 200.

    Attributes:
        url: Such as "http://127.0.0.1:8080".
    """

    url: str


class ModelLoaded(NamedTuple):
    """A model is loaded, by the first of its workers.

    Attributes:
        model: Its name; "model" where the server has one only.
        seconds: How long the load took.
        description: What it is, such as "LogisticRegression (scikit-learn)"; "" where nobody knows.
        takes: What it takes, such as "rows of 13 numbers"; "" where nobody knows.
        content_type: Of the example.
        example: The body of a request that it can answer; "" where nobody knows one.
    """

    model: str
    seconds: float
    description: str = ""
    takes: str = ""
    content_type: str = ""
    example: str = ""


class ModelFailed(NamedTuple):
    """A worker could not load a model.

    Attributes:
        model: Its name.
        message: Why, in a sentence or two.
    """

    model: str
    message: str


class Reloaded(NamedTuple):
    """New workers have loaded a model as it is now, and take over.

    Attributes:
        model: Its name.
        seconds: How long that took.
    """

    model: str
    seconds: float


class ReloadFailed(NamedTuple):
    """A new worker could not load a model as it is now; the workers of before go on.

    Attributes:
        model: Its name.
        message: Why, in a sentence or two.
    """

    model: str
    message: str


Event = Union[Listening, Ready, ModelLoaded, ModelFailed, Reloaded, ReloadFailed]
Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An observer that shows nothing."""
