# SPDX-License-Identifier: Apache-2.0
"""``completion``: the script by which a shell completes this program's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")
_PROGRAM = "sagemaker-inference-lite"
_VARIABLE = "_SAGEMAKER_INFERENCE_LITE_COMPLETE"  # the name that click makes of the program's


@click.command(short_help="Print what makes a shell complete commands.")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete commands and options.

    \b
    Example, for one session of bash:
      eval "$(sagemaker-inference-lite completion bash)"
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, _PROGRAM, _VARIABLE).source())
