# SPDX-License-Identifier: Apache-2.0
"""Two models behind one multi-model server, on this machine: trained, packed, served and asked, by the commands.

    python demo/demo.py             all of that, and then the server is stopped
    python demo/demo.py --serve     the server goes on, for you to ask, until Ctrl-C

The models are trained on data that comes with scikit-learn. Each has a code/inference.py of its own. What is printed
after a dollar sign is what you would type.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

try:
    import joblib
    import numpy as np
    from sklearn.datasets import load_digits, load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC
except ImportError as error:
    sys.exit(f"The demo cannot start: {error}. Use make demo, or pip install '.[local,demo]' first.")

HERE = Path(__file__).resolve().parent
PROGRAM = "sagemaker-inference-lite"
GRAPES = ("Barolo", "Grignolino", "Barbera")
ROWS = 5
START_SECONDS = 60
STOP_SECONDS = 40


class DemoError(Exception):
    """The demo cannot go on; the message is for the person at the terminal."""


# -- The models --------------------------------------------------------------------------------------------------------


def train_digits(directory: Path) -> tuple[Any, list[str]]:
    """A support vector machine that reads digits in 8x8 pixels; rows that it has never seen, and what they are."""
    data = load_digits()
    seen, held_out, labels, truth = train_test_split(data.data.astype(int), data.target, random_state=0)
    joblib.dump(SVC(C=10).fit(seen / 16, labels), directory / "digits.joblib")
    return held_out[:ROWS], [str(each) for each in truth[:ROWS]]


def train_wine(directory: Path) -> tuple[Any, list[str]]:
    """A logistic regression that tells grapes by the chemistry of their wine; its arrays are all that is kept."""
    data = load_wine()
    seen, held_out, labels, truth = train_test_split(data.data, data.target, random_state=0)
    scaler = StandardScaler().fit(seen)
    fitted = LogisticRegression().fit(scaler.transform(seen), labels)
    arrays = {"mean": scaler.mean_, "scale": scaler.scale_, "weights": fitted.coef_.T, "bias": fitted.intercept_}
    np.savez(directory / "wine.npz", names=np.array(GRAPES), **arrays)
    return held_out[:ROWS], [GRAPES[each] for each in truth[:ROWS]]


MODELS = {"digits": train_digits, "wine": train_wine}


# -- The commands ------------------------------------------------------------------------------------------------------


def shown(*words: str) -> list[str]:
    """Prints a command as one would type it; what to run for that."""
    print(f"\n$ {PROGRAM} {shlex.join(words)}", flush=True)
    return [sys.executable, "-m", "sagemaker_inference_lite", *words]


def run(directory: Path, *words: str) -> str:
    """Runs a command, shows what it prints, and gives that; DemoError where it fails."""
    done = subprocess.run(shown(*words), cwd=directory, capture_output=True, text=True)
    print("\n".join(text.rstrip() for text in (done.stdout, done.stderr) if text))
    if done.returncode:
        raise DemoError(f"{PROGRAM} {words[0]} ended with status {done.returncode}.")
    return done.stdout


@contextlib.contextmanager
def serving(directory: Path, archives: Sequence[str]) -> Iterator[None]:
    """Serves archives while the block runs, and stops the server as Ctrl-C does."""
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(shown("serve", *archives), cwd=directory, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "Ctrl-C stops it" not in log.read_text():
            if process.poll() is not None:
                raise DemoError(
                    f"The server ended with status {process.returncode}: {log.read_text().splitlines()[-1]}"
                )
            if time.monotonic() > deadline:
                raise DemoError(f"The server was not ready within {START_SECONDS} seconds.")
            time.sleep(0.05)
        time.sleep(0.2)
        # Of the log only what begins without a time, which is what serve itself says.
        print("\n".join(line for line in log.read_text().splitlines() if not line.startswith(("20", "["))))
        yield
        print("\n^C")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            status = process.wait(STOP_SECONDS)
        finally:
            process.kill()
            process.wait()
    if status:
        raise DemoError(f"The server stopped with status {status}.")


# -- The demo ----------------------------------------------------------------------------------------------------------


def demonstrate(directory: Path, serves_on: bool) -> None:
    """All of it."""
    print("Training two models, each with code/inference.py of its own")
    asked = {}
    for name, train in MODELS.items():
        shutil.copytree(HERE / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        asked[name] = train(directory / name)
    archives = [f"{name}.tar.gz" for name in MODELS]
    for name, archive in zip(MODELS, archives):
        run(directory, "pack", name, "-o", archive)
    if serves_on:
        subprocess.run(shown("serve", *archives), cwd=directory)
        return
    with serving(directory, archives):
        for name, (rows, truth) in asked.items():
            np.savetxt(directory / f"{name}.csv", rows, fmt="%g", delimiter=",")
            answers = json.loads(run(directory, "invoke", name, "-f", f"{name}.csv", "--accept", "application/json"))
            words = [each["grape"] if isinstance(each, dict) else str(each) for each in answers]
            print(f"{'held out:':12}{', '.join(truth)}\n{'predicted:':12}{', '.join(words)}")
        run(directory, "invoke", "digits", "-f", "digits.csv", "--repeat", "200")


@contextlib.contextmanager
def _directory(kept: Path | None) -> Iterator[Path]:
    """Where the models are: a directory that is left behind, or a temporary one."""
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="demo-") as path:
            yield Path(path).resolve()
        return
    kept.mkdir(parents=True, exist_ok=True)
    if any(kept.iterdir()):
        raise DemoError(f"{kept} is not empty.")
    yield kept.resolve()


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit status."""
    parser = argparse.ArgumentParser(description="Serve two models on this machine and ask them for predictions.")
    parser.add_argument("--serve", action="store_true", help="let the server go on until Ctrl-C")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="leave archives, models and log in a directory")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _stop)
    try:
        with _directory(arguments.keep) as directory:
            demonstrate(directory, arguments.serve)
    except KeyboardInterrupt:
        print("\nStopped before its end.", file=sys.stderr)
        return 130
    except (DemoError, OSError) as error:
        print(f"\nThe demo failed. {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is the real one here
    sys.exit(main())
