# SPDX-License-Identifier: Apache-2.0
"""The tree of errors: drawn as it is, each explained, exit codes and statuses within their ranges."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Iterator

import pytest

from sagemaker_inference_lite import errors

CLASSES = [member for member in vars(errors).values() if inspect.isclass(member) and issubclass(member, BaseException)]
REFUSED = [-1, 0, 200, 399, 600, 1000]


def drawn() -> Iterator[tuple[str, str]]:
    """Each class of the tree at the head of the module, with the one that it hangs on."""
    assert errors.__doc__ is not None
    above: list[str] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ([│ ├└─]*)([A-Z]\w+)", line)
        if found:
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            yield found[2], above[depth - 1] if depth else "Exception"


def launch_errors() -> list[type[errors.LaunchError]]:
    """All errors of the launch."""
    return [member for member in CLASSES if issubclass(member, errors.LaunchError)]


def test_the_tree_is_drawn_as_it_is() -> None:
    """The tree at the module's head holds every class, below the class that it derives from, and no other."""
    real = {member.__name__: member.__base__.__name__ for member in CLASSES if member.__base__}
    assert list(drawn()) == list(real.items())


@pytest.mark.parametrize("member", CLASSES)
def test_every_error_is_explained(member: type[BaseException]) -> None:
    """Each class says in a sentence of its own what it stands for."""
    assert member.__doc__
    assert member.__doc__ != member.__base__.__doc__
    assert member.__doc__.splitlines()[0].endswith(".")


def test_exit_codes() -> None:
    """Exit codes are from 1 to 255, and each kind of launch error has one of its own."""
    kinds = [member for member in launch_errors() if errors.LaunchError in (member, member.__base__)]
    codes = [member.exit_code for member in kinds if member is not errors.ProcessEndedError]
    assert len(set(codes)) == len(codes)
    assert all(0 < member.exit_code < 256 for member in launch_errors())


def test_the_end_of_a_process_keeps_its_code() -> None:
    """An ended process passes its status on; one that ended with 0 unasked is a failure all the same."""
    assert errors.ProcessEndedError("Java was killed.", 137).exit_code == 137
    assert errors.ProcessEndedError("Java exited.", 0).exit_code == 1
    assert errors.ProcessEndedError("Java exited.").exit_code == 1
    assert str(errors.ProcessEndedError("Java exited.", 3)) == "Java exited."


def test_settings_error_counts_its_problems() -> None:
    """All problems stand in the message, one on each line, after their number."""
    assert str(errors.SettingsError(["A=1: no"])) == "1 setting cannot be used:\n  A=1: no"
    error = errors.SettingsError(["A=1: no", "B=2: no"])
    assert str(error) == "2 settings cannot be used:\n  A=1: no\n  B=2: no"
    assert error.problems == ("A=1: no", "B=2: no")


@pytest.mark.parametrize(
    ("member", "low", "high"), [(errors.ClientError, 400, 499), (errors.ServerError, 500, 599)], ids=["4xx", "5xx"]
)
def test_statuses_have_their_range(member: type[errors.RequestError], low: int, high: int) -> None:
    """A status at either end of the range is taken with its message; any other is a mistake, and quoted."""
    for status in (low, high):
        error = member(status, "why")
        assert (error.status, error.message, str(error)) == (status, "why", "why")
    for status in (*REFUSED, low - 1, high + 1):
        with pytest.raises(ValueError, match=f"from {low} to {high}, not {status}"):
            member(status, "why")


@pytest.mark.parametrize(
    ("member", "status"), [(errors.UnsupportedMediaTypeError, 415), (errors.NotAcceptableError, 406)]
)
def test_errors_with_a_status_of_their_own(member: type[errors.ClientError], status: int) -> None:
    """An error with one status only needs to be told its message."""
    error = member("why")  # type: ignore[call-arg, arg-type]  # type checkers know the base's arguments only
    assert (error.status, error.message) == (status, "why")


@pytest.mark.parametrize(
    "error",
    [
        errors.RequestError(418, "teapot"),
        errors.ClientError(status=422, message="Too short."),
        errors.ServerError(503, "Later."),
        errors.UnsupportedMediaTypeError("No."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_requests_travel_between_processes(error: errors.RequestError) -> None:
    """What a process of a handler's own raises is unpickled as what it was, in every protocol; copies are alike."""
    others = [pickle.loads(pickle.dumps(error, each)) for each in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in [*others, copy.copy(error)]:
        assert type(other) is type(error)
        assert (other.status, other.message, str(other)) == (error.status, error.message, str(error))
