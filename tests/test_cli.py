# SPDX-License-Identifier: Apache-2.0
"""The sagemaker-inference-lite command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sagemaker_inference_lite import __version__
from sagemaker_inference_lite.cli import main
from sagemaker_inference_lite.settings import listing, markdown_table


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, with further environment variables."""
    command = [sys.executable, "-m", "sagemaker_inference_lite", *arguments]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)


def test_settings_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """`settings` prints a line for each setting with the value in force and the variable that set it."""
    environ = {"SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "70"}
    assert main(["settings"], environ) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["VARIABLE", "VALUE", "UNIT", "SET", "BY"]
    assert [line.split()[0] for line in lines] == [row.name for row in listing(environ)]
    (timeout,) = (line.split() for line in lines if "_TIMEOUT " in line and "MODEL_SERVER" in line)
    assert timeout[1:] == ["70", "seconds", "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"]


def test_settings_know_the_front_end_s_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """A variable of MMS's that sets one of ours is its source, one without effect is warned of, a mistake is named."""
    assert main(["settings"], {"MMS_DEFAULT_RESPONSE_TIMEOUT": "900", "MMS_PRELOAD_MODEL": "true"}) == 0
    printed = capsys.readouterr()
    (timeout,) = (
        line.split() for line in printed.out.splitlines() if line.startswith("SAGEMAKER_MODEL_SERVER_TIMEOUT ")
    )
    assert timeout[1:] == ["900", "seconds", "MMS_DEFAULT_RESPONSE_TIMEOUT"]
    assert "warning: MMS_PRELOAD_MODEL='true' has no effect" in printed.err
    assert main(["settings"], {"MMS_JOB_QUEUE_SIZE": "many"}) == 2
    assert "MMS_JOB_QUEUE_SIZE='many': expected a whole number" in capsys.readouterr().err


def test_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """All cells of a column begin at the same place, and no line ends in blanks."""
    main(["settings"], {"SAGEMAKER_PROGRAM": "a_file_with_a_rather_long_name_indeed.py"})
    head, *lines = capsys.readouterr().out.splitlines()
    last = head.index("SET BY")
    assert all(line[last - 1] == " " and line[last] != " " for line in lines)
    assert all(line == line.rstrip() for line in (head, *lines))


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    """`settings --explain` says below each setting what it means."""
    assert main(["settings", "--explain"], {}) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines[2::2]] == [row.help for row in listing({})]


def test_mistakes_end_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """Settings that cannot be used are all named on stderr, nothing is printed on stdout, and the status is 2."""
    assert main(["settings"], {"SAGEMAKER_BIND_TO_PORT": "x", "SAGEMAKER_BATCH": "y"}) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "SAGEMAKER_BIND_TO_PORT='x': expected a whole number from 1 to 32766" in captured.err
    assert "SAGEMAKER_BATCH='y'" in captured.err


def test_misspellings_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt name is warned of on stderr and changes nothing else."""
    assert main(["settings"], {"SAGEMAKER_MODEL_SERVER_WORKER": "2"}) == 0
    assert "warning: SAGEMAKER_MODEL_SERVER_WORKER is not a setting" in capsys.readouterr().err


def test_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    """`settings --markdown` prints the documentation's table, whatever the environment holds."""
    assert main(["settings", "--markdown"], {"SAGEMAKER_BATCH": "y"}) == 0
    assert capsys.readouterr().out == markdown_table() + "\n"


@pytest.mark.parametrize("arguments", [["nothing"], ["settings", "--explain", "--markdown"], ["settings", "more"]])
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments that cannot be understood end with status 2, one message and how the command is used."""
    assert main(arguments, {}) == 2
    error, usage = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert usage.startswith("  sagemaker-inference-lite ")


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the help is shown, on stderr, and the status is 2."""
    assert main([], {}) == 2
    assert main(["--help"], {}) == 0
    printed = capsys.readouterr()
    assert printed.err == printed.out


@pytest.mark.parametrize(("typed", "meant"), [("setings", "settings"), ("prepair", "prepare")])
def test_misspelt_commands(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is none is met with the nearest one that is."""
    assert main([typed], {}) == 2
    assert f"did you mean {meant!r}?" in capsys.readouterr().err


def test_settings_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """`settings --json` prints the same rows for a program."""
    assert main(["settings", "--json"], {}) == 0
    assert json.loads(capsys.readouterr().out) == [row._asdict() for row in listing({})]


def test_completion() -> None:
    """The script for bash is one that bash can read, and completes the commands by asking the program."""
    script = run("completion", "bash").stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    asked = run(
        _SAGEMAKER_INFERENCE_LITE_COMPLETE="bash_complete", COMP_WORDS="sagemaker-inference-lite se", COMP_CWORD="1"
    )
    assert "plain,settings" in asked.stdout


def test_module_reads_the_environment() -> None:
    """`python -m sagemaker_inference_lite` reads its own environment and exits with the command's status."""
    good = run("settings", SAGEMAKER_PROGRAM="mine.py")
    assert (good.returncode, good.stderr) == (0, "")
    assert "mine.py" in good.stdout
    assert run("settings", SAGEMAKER_BATCH="x").returncode == 2


def test_version() -> None:
    """`--version` names the command and the package's version."""
    assert run("--version").stdout == f"sagemaker-inference-lite {__version__}\n"


def test_closed_pipe_is_no_traceback() -> None:
    """A reader that goes away, such as head, is met with silence."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "sagemaker_inference_lite", "settings"]
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "")


def test_console_script() -> None:
    """The installed command does the same as the module."""
    script = shutil.which("sagemaker-inference-lite", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("the package is not installed beside this interpreter")
    done = subprocess.run([script, "--version"], capture_output=True, text=True)
    assert done.stdout == f"sagemaker-inference-lite {__version__}\n"
