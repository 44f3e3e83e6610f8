# SPDX-License-Identifier: Apache-2.0
"""``init``: a container project that works as it lies there."""

from __future__ import annotations

from pathlib import Path

import click

from sagemaker_inference_lite.project.generator import FRAMEWORKS, generate


@click.command(short_help="Make a container project that works as it lies there.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--framework", type=click.Choice(list(FRAMEWORKS)), default="sklearn", show_default=True, help="Of models."
)
@click.option("--multi-model", "several", is_flag=True, help="For an endpoint of several models.")
@click.option("--force", is_flag=True, help="Write into a directory that holds files, over those of the same names.")
def command(directory: Path, framework: str, several: bool, force: bool) -> None:
    """Make a container project that works as it lies there.

    It has a Dockerfile, a small model and its training, tests that serve and ask it, a script that pushes the image and
    one that makes, updates and deletes endpoints.

    \b
    Example:
      sagemaker-inference-lite init my-endpoint --framework xgboost --multi-model
    """
    files = generate(directory, framework, several, force)
    for file in sorted(files):
        click.echo(f"  {directory / file}")
    click.echo(f"\nNext, in {directory}:")
    click.echo("  pip install -r requirements-dev.txt")
    click.echo("  python train.py && pytest")
    click.echo(f"  sagemaker-inference-lite serve {'models/iris models/wine' if several else 'model'}")
