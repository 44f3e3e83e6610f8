# SPDX-License-Identifier: Apache-2.0
"""``serve``: models from paths, served on this machine as a container would serve them."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import click

from sagemaker_inference_lite.cli import terminal
from sagemaker_inference_lite.local.environment import LOOPBACK


def _pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Options of the form NAME=VALUE."""
    pairs = []
    for value in values:
        name, equals, rest = value.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{value!r} is not of the form {parameter.metavar}.")
        pairs.append((name, rest))
    return tuple(pairs)


def _host(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """A host that can be listened at."""
    try:
        socket.getaddrinfo(value, None, socket.AF_INET)
    except OSError as error:
        raise click.BadParameter(
            f"{value!r} is neither an IPv4 address nor the name of one ({error.strerror})."
        ) from error
    return value


@click.command(short_help="Serve models on this machine, as a container would.")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--model", "named", multiple=True, metavar="NAME=PATH", callback=_pairs, help="A model under this name.")
@click.option("--handler", metavar="HANDLER", help="What handles requests: SAGEMAKER_HANDLER.")
@click.option("--port", type=click.IntRange(1, 32766), help="SAGEMAKER_BIND_TO_PORT; by default 8080 or a free one.")
@click.option("--host", default=LOOPBACK, callback=_host, help="Where to listen; by default at 127.0.0.1 alone.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Per model: SAGEMAKER_MODEL_SERVER_WORKERS.")
@click.option(
    "--timeout", type=click.IntRange(1), metavar="SECONDS", help="Of a request: SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS."
)
@click.option(
    "--access-log/--no-access-log", default=True, help="A line per request: SAGEMAKER_MODEL_SERVER_ACCESS_LOG."
)
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="Any other variable.")
@click.option("--reload", "reloads", is_flag=True, help="Replace workers when a model or the handler changes.")
@click.option("--settings", "shows_settings", is_flag=True, help="Show the settings that would be in force, and end.")
@click.pass_obj
def command(
    environ: Mapping[str, str],
    paths: tuple[str, ...],
    named: tuple[tuple[str, str], ...],
    handler: str | None,
    port: int | None,
    host: str,
    workers: int | None,
    timeout: int | None,
    access_log: bool,
    variables: tuple[tuple[str, str], ...],
    reloads: bool,
    shows_settings: bool,
) -> int:
    """Serve models on this machine, as a container would.

    A PATH is a model's file (.joblib, .onnx, .pt, XGBoost's .json or .ubj, LightGBM's .txt, CatBoost's .cbm), a
    model's directory, a model.tar.gz, or a directory of several of these. One model is asked at /invocations, several
    at /models/NAME/invoke. The environment is heeded as in a container; an option wins over a variable, and --env
    over both. Ctrl-C stops the server once it has answered what is in flight, a second one at once.

    With --reload new workers load a model whose file or code has changed, or the handler, and take over; a mistake is
    shown, and what was served before goes on.

    \b
    Examples:
      sagemaker-inference-lite serve model.joblib
      sagemaker-inference-lite serve --model churn=churn.ubj --model fraud=fraud/ --reload

    \b
    Exit status:
      0    after Ctrl-C or SIGTERM, once what was in flight is answered
      2    options, paths or settings that cannot be used
      3    no Java, or a port that was asked for and is in use
      4    the handler cannot be imported
      5    the start took too long
      6    no model could be loaded
      7    a model's requirements cannot be installed
      130  Ctrl-C before it served, or twice
      1    anything else
    """
    from sagemaker_inference_lite.cli import settings
    from sagemaker_inference_lite.cli.serve_screen import ServeScreen
    from sagemaker_inference_lite.cli.serving import Serving
    from sagemaker_inference_lite.local import environment
    from sagemaker_inference_lite.local.model_paths import find_models

    environment.check_variables(environ, variables)
    asked_port = port if port is not None else environment.asked_port(environ)
    asked = environment.Asked(host, asked_port, handler, workers, timeout, access_log, variables, reloads)
    models = find_models(paths, named, has_handler=bool(handler or environ.get("SAGEMAKER_HANDLER")))
    if shows_settings:
        settings.show(environment.shown(environ, asked, models.several))
        return 0
    environment.check_installed(environ)
    if models.several and not environment.is_loopback(host):
        terminal.warning(f"Whoever reaches {host} can load models into this server, and run code with them.")
    watchfiles = terminal.library("watchfiles", "serve --reload") if reloads else None
    return Serving(environ, asked, models, ServeScreen(), watchfiles).run()
