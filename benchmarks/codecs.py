# SPDX-License-Identifier: Apache-2.0
"""The codecs beside those of AWS's sagemaker-inference: 2,000 x 64 floats in JSON, CSV and NPY, in and out.

    python benchmarks/codecs.py [--json FILE]

Three processes measure the same work in turn, round after round, so that whatever else the machine does meets all of
them: this package, this package with its extra `fast`, and sagemaker-inference. What a round finds is the median of
several calls; what is reported is the median of the rounds, and the lowest and the highest of them.

Each side does what it does for a request. Bodies come as bytes, which sagemaker-inference makes text of where it is
JSON or CSV (transformer.py), and answers are what the encoder returns. Before anything is measured each side shows
that it was given the same bodies, that it reads the numbers from them, and that what it writes is those numbers.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PEER = "sagemaker-inference 1.10.1"
PLAIN = "without fast"
FAST = "with fast"
SIDES = {PEER: "bench-peer", PLAIN: "bench-codecs", FAST: "bench-codecs"}

ROWS, COLUMNS = 2000, 64
JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
WORK = [f"{verb} {content_type}" for content_type in (JSON, CSV, NPY) for verb in ("decode", "encode")]
ROUNDS = 7
SECONDS_A_ROUND = 0.15
CALLS_A_ROUND = 3  # at least


# -- What measures -----------------------------------------------------------------------------------------------------


def answer(side: str) -> None:
    """Prints how a side introduces itself, and then for each work that is asked for what a call of it takes."""
    decode, encode = _functions(side)
    table = _table()
    bodies = _bodies(table)
    jobs: dict[str, Callable[[], Any]] = {}
    for content_type, body in bodies.items():
        _check(table, decode(body, content_type), decode(_as_bytes(encode(table, content_type)), content_type))
        jobs[f"decode {content_type}"] = partial(decode, body, content_type)
        jobs[f"encode {content_type}"] = partial(encode, table, content_type)
    print(json.dumps(_introduction(bodies)), flush=True)
    for line in sys.stdin:
        print(_milliseconds(jobs[line.strip()]), flush=True)


def _functions(side: str) -> tuple[Callable[[bytes, str], Any], Callable[[Any, str], Any]]:
    """How a side decodes a body, and encodes a value, of a type."""
    if side == PEER:
        from sagemaker_inference import decoder, encoder

        def decode(body: bytes, content_type: str) -> Any:
            return decoder.decode(body if content_type == NPY else body.decode("utf-8"), content_type)

        return decode, encoder.encode
    if side == PLAIN:
        # None makes an import fail as it does where nothing is installed.
        sys.modules.update({"simdjson": None, "pyarrow": None})  # type: ignore[dict-item]  # what the import system asks
    from sagemaker_inference_lite import codecs

    return codecs.decode, codecs.encode


def _table() -> Any:
    import numpy as np

    return np.random.default_rng(0).standard_normal((ROWS, COLUMNS))


def _bodies(table: Any) -> dict[str, bytes]:
    """The bodies as clients write them: json.dumps(), repr() and numpy.save()."""
    import numpy as np

    stream = io.BytesIO()
    np.save(stream, table)
    rows = table.tolist()
    return {
        JSON: json.dumps(rows).encode(),
        CSV: "\n".join(",".join(map(repr, row)) for row in rows).encode(),
        NPY: stream.getvalue(),
    }


def _as_bytes(encoded: Any) -> bytes:
    """What an encoder has returned: bytes, or text, or a pair of bytes and their type."""
    body: Any = encoded[0] if isinstance(encoded, tuple) else encoded
    return body.encode() if isinstance(body, str) else bytes(body)


def _check(table: Any, *decoded: Any) -> None:
    import numpy as np

    for each in decoded:
        if not np.array_equal(each, table):
            raise RuntimeError("the numbers are not those that were sent")


def _introduction(bodies: dict[str, bytes]) -> dict[str, Any]:
    from importlib.metadata import distributions

    wanted = ("sagemaker-inference", "sagemaker-inference-lite", "numpy", "orjson", "pysimdjson")
    found = {str(each.metadata["Name"]).lower().replace("_", "-"): each.version for each in distributions()}
    digest = hashlib.sha256(b"".join(bodies[name] for name in (JSON, CSV, NPY))).hexdigest()
    return {"bodies": digest, "versions": {name: found[name] for name in wanted if name in found}}


def _milliseconds(job: Callable[[], Any]) -> float:
    """The median of as many calls as a round has time for. The first one, which may find caches cold, is left out."""
    job()
    taken: list[float] = []
    begin = time.perf_counter()
    while len(taken) < CALLS_A_ROUND or time.perf_counter() - begin < SECONDS_A_ROUND:
        start = time.perf_counter()
        job()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


# -- What asks, compares and reports -----------------------------------------------------------------------------------


class Side:
    """A process that measures one side."""

    def __init__(self, name: str, python: Path) -> None:
        # Isolated: it must find what is installed, and neither the tree nor what lies beside this file.
        command = [str(python), "-I", str(Path(__file__).resolve()), "--answer", name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.introduction: dict[str, Any] = json.loads(self._line())

    def milliseconds(self, work: str) -> float:
        """What a call takes, by one round of measuring."""
        assert self._process.stdin
        self._process.stdin.write(work + "\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process that measures has ended with status {self._process.wait()}")
        return line


class Figure(NamedTuple):
    """A median, and the lowest and the highest of what it is the median of."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        """The figure of some values."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        digits = 3 if self.median < 1 else 2 if self.median < 10 else 1
        return f"{self.median:.{digits}f} ({self.lowest:.{digits}f}-{self.highest:.{digits}f})"


def measure(sides: dict[str, Side]) -> dict[str, dict[str, list[float]]]:
    """The milliseconds of each work, by side, one for each round."""
    if len({side.introduction["bodies"] for side in sides.values()}) != 1:
        raise RuntimeError("the sides have made different bodies")
    found: dict[str, dict[str, list[float]]] = {work: {name: [] for name in sides} for work in WORK}
    for _ in range(ROUNDS):
        for work in WORK:
            for name, side in sides.items():
                found[work][name].append(side.milliseconds(work))
    return found


def report(found: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, dict[str, Figure]]]:
    """The figures: milliseconds by side, and how they compare to the peer's of the same round."""
    return {
        work: {
            "milliseconds": {name: Figure.of(values) for name, values in rounds.items()},
            "ratio": {
                name: Figure.of([ours / theirs for ours, theirs in zip(rounds[name], rounds[PEER])])
                for name in (PLAIN, FAST)
            },
        }
        for work, rounds in found.items()
    }


def show(figures: dict[str, dict[str, dict[str, Figure]]]) -> None:
    """Prints the table, in Markdown."""
    print(f"| ms | {PEER} | {PLAIN} | ratio | {FAST} | ratio |\n|---|---|---|---|---|---|")
    for work, figure in figures.items():
        ms, ratio = figure["milliseconds"], figure["ratio"]
        print(f"| {work} | {ms[PEER]} | {ms[PLAIN]} | {ratio[PLAIN]} | {ms[FAST]} | {ratio[FAST]} |")


def _environments() -> dict[str, Path]:
    """The interpreter of each side."""
    sys.path.append(str(ROOT / "tools"))
    from environments import prepare

    return {name: prepare(purpose).programs / "python" for name, purpose in SIDES.items()}


def _written(figures: dict[str, dict[str, dict[str, Figure]]], about: dict[str, Any]) -> str:
    plain = {
        work: {kind: {name: each._asdict() for name, each in by_side.items()} for kind, by_side in kinds.items()}
        for work, kinds in figures.items()
    }
    return json.dumps({**about, "figures": plain}, indent=2) + "\n"


def main() -> int:
    """Measures, and prints what came of it."""
    parser = argparse.ArgumentParser(description="Measure the codecs beside sagemaker-inference's.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--answer", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer:
        answer(arguments.answer)
        return 0
    sides = {name: Side(name, python) for name, python in _environments().items()}
    about = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
        "work": f"{ROWS} x {COLUMNS} float64, {ROUNDS} rounds",
        "versions": {name: side.introduction["versions"] for name, side in sides.items()},
    }
    try:
        figures = report(measure(sides))
    finally:
        for side in sides.values():
            side.close()
    print(json.dumps(about, indent=2))
    show(figures)
    if arguments.json:
        arguments.json.write_text(_written(figures, about), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
