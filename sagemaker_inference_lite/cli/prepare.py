# SPDX-License-Identifier: Apache-2.0
"""``prepare``: what is done once while an image is built."""

from __future__ import annotations

from collections.abc import Mapping

import click

from sagemaker_inference_lite.launch.image_build import prepare


@click.command(short_help="Make what lets a server start faster, in an image's build.")
@click.pass_obj
def command(environ: Mapping[str, str]) -> None:
    """Make what lets a server start faster; for the build of an image.

    Writes into the package's directory an archive of the front end's classes, for the Java that a server would take,
    and the front end's native library. A server that finds them is there in about 0.6 of the time, and needs no
    temporary directory that it may run code from.

    \b
    Example, in a Dockerfile:
      RUN pip install 'sagemaker_inference_lite[jre]' && sagemaker-inference-lite prepare
    """
    java, library, archive = prepare(environ)
    name = f"Java {java.version} ({java.source})"
    click.echo(f"{library}: unpacked")
    if archive:
        click.echo(f"{archive.path}: {archive.size / 1e6:.0f} MB, for {name}, made in {archive.seconds:.1f} s")
    else:
        click.echo(f"no archive of classes: that takes Java 17, and this is {name}")
