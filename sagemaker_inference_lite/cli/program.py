# SPDX-License-Identifier: Apache-2.0
"""From the command's arguments to its exit status."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from sagemaker_inference_lite import __version__
from sagemaker_inference_lite.cli import terminal
from sagemaker_inference_lite.cli.lazy_group import LazyGroup
from sagemaker_inference_lite.errors import InferenceLiteError, LaunchError
from sagemaker_inference_lite.runtime import standard_streams

PROGRAM = "sagemaker-inference-lite"

_STDOUT = 1

# By which a shell asks click for what can follow; there are no arguments then.
_COMPLETION = f"_{PROGRAM}_COMPLETE".replace("-", "_").upper()


@click.group(
    cls=LazyGroup,
    commands_package="sagemaker_inference_lite.cli",
    command_names=("serve", "invoke", "pack", "unpack", "init", "doctor", "settings", "prepare", "completion"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, help="Show where an error comes from, for those who develop this program.")
def program(traceback: bool) -> None:
    """Serve Python models behind SageMaker endpoints."""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments after the program's name; those of this process by default.
        environ: The environment; that of this process by default.

    Returns:
        The exit status: 0; what the error that ended the command carries, or 1; 2 where the arguments cannot be
        understood; 130 after Ctrl-C.
    """
    standard_streams.set_up()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments and _COMPLETION not in os.environ:  # which click's releases answer in different ways
        click.echo(program.get_help(click.Context(program, info_name=PROGRAM)), err=True)
        return 2
    try:
        status = program.main(
            arguments, PROGRAM, standalone_mode=False, obj=dict(os.environ if environ is None else environ)
        )
        if sys.stdout is not None:
            sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        _show_usage_error(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read the output has seen enough. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
        return 1
    except Exception as error:
        return _show(error, "--traceback" in arguments[:1])


def _show_usage_error(error: click.ClickException) -> None:
    context: Any = getattr(error, "ctx", None)
    terminal.error(error.format_message())
    if context is not None and context.command is not None:
        terminal.hint(f"{context.get_usage().replace('Usage: ', '')}    ({context.command_path} --help says more)")


def _show(error: Exception, with_traceback: bool) -> int:
    """Say what has ended the command; the exit status."""
    if with_traceback:
        sys.excepthook(type(error), error, error.__traceback__)
    elif isinstance(error, (InferenceLiteError, OSError)):
        terminal.error(str(error))
    else:
        terminal.error(f"{type(error).__name__}: {error}")
        terminal.hint(
            f"This is a mistake of {PROGRAM}'s own. `{PROGRAM} --traceback ...` shows where. Please report it."
        )
    return error.exit_code if isinstance(error, LaunchError) else 1
