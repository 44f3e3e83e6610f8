# SPDX-License-Identifier: Apache-2.0
"""``invoke``: one request to a server, or many."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

_NOTHING_TO_SEND = "There is nothing to send: give it with -d '[[1, 2]]', -d @FILE or -f FILE, or pipe it in."


def _header(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for value in values:
        name, colon, rest = value.partition(":")
        if not (name.strip() and colon) or not value.isprintable():
            raise click.BadParameter(f"{value!r} is not a header; expected 'Name: value'.")
        pairs.append((name.strip(), rest.strip()))
    return tuple(pairs)


@click.command(short_help="Ask a model, once or many times.")
@click.argument("model", required=False)
@click.option("-d", "--data", metavar="TEXT|@FILE", help="What to send. Otherwise it is read from stdin.")
@click.option("-f", "--file", "file", type=click.Path(), metavar="FILE", help="A file to send; its name says its type.")
@click.option("--url", metavar="URL", help="The server; by default the one that runs here.")
@click.option("--content-type", metavar="TYPE", help="What is sent; by default what the file's name or the text says.")
@click.option("--accept", metavar="TYPE", help="What is to come back.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", callback=_header, help="A header.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write the answer's body there.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=60.0, metavar="SECONDS", help="By default 60."
)
@click.option("--repeat", type=click.IntRange(1), metavar="N", help="Send it N times and show what that took.")
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=1, metavar="C", help="Connections at once, with --repeat."
)
@click.option("--json", "as_json", is_flag=True, help="With --repeat: the numbers as JSON.")
@click.pass_obj
def command(
    environ: Mapping[str, str],
    model: str | None,
    data: str | None,
    file: str | None,
    url: str | None,
    content_type: str | None,
    accept: str | None,
    headers: tuple[tuple[str, str], ...],
    output: str | None,
    timeout: float,
    repeat: int | None,
    concurrency: int,
    as_json: bool,
) -> int:
    """Send data to a model and show the answer.

    Without MODEL the server's only one is asked. JSON is laid out at a terminal; into a pipe and a file go the bytes
    as they came. The status and the time are on stderr.

    \b
    Examples:
      sagemaker-inference-lite invoke -d '[[5.1, 3.5, 1.4, 0.2]]'
      sagemaker-inference-lite invoke churn -f rows.csv --accept application/json
      sagemaker-inference-lite invoke -f rows.npy --repeat 1000 --concurrency 4

    \b
    Exit status, with --repeat that of the worst answer:
      0    an answer of status 2xx
      3    of 3xx
      4    of 4xx
      5    of 5xx
      1    no answer
      2    options that cannot be used
      130  Ctrl-C
    """
    from sagemaker_inference_lite.cli import invoking

    if repeat is None and (as_json or concurrency > 1):
        raise click.UsageError("--concurrency and --json go with --repeat.")
    if repeat is not None and output is not None:
        raise click.UsageError("--output and --repeat exclude each other: many answers are counted, not kept.")
    if data is not None and file is not None:
        raise click.UsageError("--data and --file exclude each other.")
    sent = invoking.request_data(data, file)
    if sent is None:
        raise click.UsageError(_NOTHING_TO_SEND)
    where = invoking.find_target(environ, url, model)
    wanted = {"Content-Type": content_type or sent.content_type, **({"Accept": accept} if accept else {})}
    all_headers = {**wanted, **dict(headers)}
    if repeat is None:
        return invoking.ask(where, sent.body, all_headers, timeout, Path(output) if output else None)
    return invoking.ask_repeatedly(where, sent.body, all_headers, timeout, repeat, concurrency, as_json)
