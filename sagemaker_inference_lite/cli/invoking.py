# SPDX-License-Identifier: Apache-2.0
"""What ``invoke`` does: whom it asks, what it sends, and what it shows of the answers."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from sagemaker_inference_lite.cli import terminal
from sagemaker_inference_lite.local import request_data as data_of
from sagemaker_inference_lite.local.client import Client, Response, Target, target
from sagemaker_inference_lite.local.environment import DEFAULT_PORT, LOOPBACK
from sagemaker_inference_lite.local.load_run import LoadRun, Summary
from sagemaker_inference_lite.local.pretty_json import pretty
from sagemaker_inference_lite.local.request_data import RequestData
from sagemaker_inference_lite.local.running import Running, running_here
from sagemaker_inference_lite.runtime.printable import on_lines, on_one_line

NO_ANSWER_STATUS = 1
_INTERRUPTED_STATUS = 130

_LOOK_SECONDS = 0.1
_BAR_CHARACTERS = 40
# Of a terminal that does not say its own, for which Python 3.9 has 0.
_WIDTH = 80


# -- What is sent, and to whom -----------------------------------------------------------------------------------------


def request_data(data: str | None, file: str | None) -> RequestData | None:
    """What the options, or stdin, say is to be sent; None where nothing does."""
    if data is not None and data.startswith("@"):
        file = data[1:]
    if file is not None and file != "-":
        return RequestData(_bytes_of(file), data_of.type_of_file(file))
    if data is not None and file is None:
        return RequestData(os.fsencode(data), data_of.type_of_text(data))
    if file is None and terminal.is_terminal(sys.stdin):
        return None
    body = sys.stdin.buffer.read()
    return RequestData(body, data_of.type_of_bytes(body)) if body else None


def _bytes_of(file: str) -> bytes:
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror or error}.") from error


def find_target(environ: Mapping[str, str], url: str | None, model: str | None) -> Target:
    """Where a request goes: to the address that was given, or to the server that runs here."""
    if url is not None:
        return target(url, model)
    servers = running_here(environ)
    if not servers:
        return target(f"http://{LOOPBACK}:{DEFAULT_PORT}", model)
    server = _serving(model, servers)
    if len(servers) > 1:
        terminal.hint(f"{len(servers)} servers run here; asking {server.url}. --url names another.")
    if not server.several:
        _check_only(model, server)
        return target(server.url)
    if model is None and len(server.models) > 1:
        raise click.UsageError(f"Which model? The server at {server.url} has {', '.join(server.models)}.")
    return target(server.url, model or server.models[0])


def _serving(model: str | None, servers: list[Running]) -> Running:
    """The server that was started last, of those that have the model if there are any."""
    return next((each for each in reversed(servers) if model in each.models), servers[-1])


def _check_only(model: str | None, server: Running) -> None:
    if model is not None and model not in server.models:
        raise click.UsageError(f"The server at {server.url} has no model {model!r}, but {', '.join(server.models)}.")


# -- One request -------------------------------------------------------------------------------------------------------


def ask(where: Target, body: bytes, headers: Mapping[str, str], timeout: float, output: Path | None) -> int:
    """Ask once and show the answer; the exit status."""
    with Client(where, timeout) as client:
        response = client.post(body, headers)
    kind = f", {response.content_type}" if response.content_type else ""
    summary = f"{response.status} {response.reason}, {response.seconds:.3f} s{kind}, {len(response.body)} bytes"
    click.secho(on_one_line(summary), err=True, dim=True, color=terminal.is_coloured(sys.stderr))
    if output is not None and response.status < 300:
        output.write_bytes(response.body)
    else:
        _show(response)
    return exit_status([response.status])


def _show(response: Response) -> None:
    if not terminal.is_terminal(sys.stdout):
        stream = sys.stdout.buffer
        stream.write(response.body)
        stream.flush()
    elif data_of.is_text(response.content_type) or data_of.is_json(response.body):
        text = response.body.decode(errors="replace")
        shown = pretty(text, shutil.get_terminal_size().columns or _WIDTH)
        click.echo(on_lines(shown))
    elif response.body:
        terminal.hint(
            f"The answer is {response.content_type or 'binary'}, which a terminal cannot show: -o FILE keeps it."
        )


def exit_status(statuses: Iterable[int]) -> int:
    """The exit status for answers: 0, or the first digit of the highest status that is no success."""
    return max((status // 100 for status in statuses if not 200 <= status < 300), default=0)


# -- Many --------------------------------------------------------------------------------------------------------------


def ask_repeatedly(
    where: Target,
    body: bytes,
    headers: Mapping[str, str],
    timeout: float,
    repeat: int,
    concurrency: int,
    as_json: bool,
) -> int:
    """Ask many times and show what that took; Ctrl-C shows what there is. The exit status."""
    run = LoadRun(where, body, headers, repeat, concurrency, timeout)
    was_interrupted = False
    run.start()
    try:
        _watch(run, repeat)
    except KeyboardInterrupt:
        was_interrupted = True
        run.stop()
    summary = run.summary()
    if as_json:
        click.echo(json.dumps(_as_json(summary), indent=2))
    else:
        click.echo("\n".join(_lines(summary)))
    if was_interrupted:
        return _INTERRUPTED_STATUS
    return exit_status(summary.statuses) or (NO_ANSWER_STATUS if summary.failures else 0)


def _watch(run: LoadRun, repeat: int) -> None:
    if not terminal.is_terminal(sys.stderr):
        while not run.wait(_LOOK_SECONDS):
            pass
        return
    progress = terminal.library("rich.progress", "invoke --repeat")
    columns = [progress.BarColumn(), progress.MofNCompleteColumn(), progress.TimeRemainingColumn()]
    with progress.Progress(*columns, console=terminal.console("invoke", stderr=True), transient=True) as shown:
        task = shown.add_task("", total=repeat)
        while not run.wait(_LOOK_SECONDS):
            shown.update(task, completed=run.done)


def _lines(summary: Summary) -> Iterable[str]:
    answered = f"{summary.requests} answers in {summary.seconds:.2f} s"
    yield f"{answered}: {summary.rate:.1f} per second" if summary.requests else f"no answers in {summary.seconds:.2f} s"
    for status, count in summary.statuses.items():
        yield f"  status {status}: {count}"
    for reason, count in summary.failures.items():
        yield f"  without an answer: {count} ({on_one_line(reason)})"
    if not summary.requests:
        return
    times = zip(("p50", "p90", "p99", "slowest"), (summary.p50, summary.p90, summary.p99, summary.slowest))
    yield "  " + ", ".join(f"{name} {_milliseconds(each)} ms" for name, each in times)
    yield ""
    most = max(bar.answers for bar in summary.histogram)
    width = len(_milliseconds(summary.histogram[-1].high))
    full = "█" if terminal.is_terminal(sys.stdout) else "#"
    for bar in summary.histogram:
        length = round(bar.answers / most * _BAR_CHARACTERS) or bool(bar.answers)
        edges = f"{_milliseconds(bar.low):>{width}} - {_milliseconds(bar.high):>{width}} ms"
        yield f"  {edges}  {bar.answers:>{len(str(most))}}  {full * length}".rstrip()


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


def _as_json(summary: Summary) -> dict[str, object]:
    content = summary._asdict()
    content["statuses"] = {str(status): count for status, count in summary.statuses.items()}
    content["histogram"] = [bar._asdict() for bar in summary.histogram]
    return content
