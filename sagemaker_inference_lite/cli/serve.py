# SPDX-License-Identifier: Apache-2.0
"""``serve``: models from paths, served on this machine as a container would serve them."""

from __future__ import annotations

from collections.abc import Mapping

import click

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


@click.command(short_help="Serve models on this machine, as a container would.")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--model", "named", multiple=True, metavar="NAME=PATH", callback=_pairs, help="A model and its name.")
@click.option("--handler", metavar="HANDLER", help="The handler service. Sets SAGEMAKER_HANDLER.")
@click.option("--port", type=click.IntRange(1, 32766), help="The port; by default 8080, or a free one.")
@click.option("--host", default=LOOPBACK, show_default=True, help="The address to listen at.")
@click.option("--workers", type=click.IntRange(1), help="Workers per model.")
@click.option("--timeout", type=click.IntRange(1), metavar="SECONDS", help="The longest that a request may take.")
@click.option("--access-log/--no-access-log", default=None, help="Whether to show a line per request.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="A variable.")
@click.option("--reload", "reloads", is_flag=True, help="Replace workers when a model's code or file changes.")
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
    access_log: bool | None,
    variables: tuple[tuple[str, str], ...],
    reloads: bool,
    shows_settings: bool,
) -> int:
    """Serve the models at these paths."""
    from sagemaker_inference_lite.cli.serve_screen import ServeScreen
    from sagemaker_inference_lite.cli.serving import Serving
    from sagemaker_inference_lite.local.environment import Asked
    from sagemaker_inference_lite.local.model_paths import find_models

    asked = Asked(host, handler, workers, timeout, access_log, dict(variables))
    models = find_models(paths, named, has_handler=bool(handler or environ.get("SAGEMAKER_HANDLER")))
    return Serving(environ, asked, port, models, ServeScreen()).run()
