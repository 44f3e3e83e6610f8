# SPDX-License-Identifier: Apache-2.0
"""What is measured, and what came out: the rows of the table, the curves, and the file that keeps both."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        label: What is measured.
        unit: What the figures count.
        more_is_better: Whether a ratio above 1 is in favour of the first.
    """

    label: str
    unit: str
    more_is_better: bool = False


ROWS = {
    "small": Row("small JSON, 2 workers, 8 connections", "requests/s", more_is_better=True),
    "small_p99": Row("the same, 99th percentile", "ms"),
    "single": Row("the same, 1 connection, median", "ms"),
    "large": Row("20 MB NPY in, small answer out, 1 connection, median", "ms"),
    "own_small": Row("small JSON through the library's own handler service, 8 connections", "requests/s", True),
    "own_large": Row("20 MB NPY through the library's own handler service, median", "ms"),
    "start": Row("start to the first answer, or to a /ping 200 that means it", "s"),
    "start_many": Row("start of a multi-model server to its first scikit-learn model loaded", "s"),
    "load_first": Row("load of that first model", "ms"),
    "load": Row("load of a further scikit-learn model, median", "ms"),
    "memory": Row("memory (PSS) per further scikit-learn model, loaded", "MB"),
    "memory_asked": Row("the same, once it has answered a request", "MB"),
    "memory_left": Row("memory left over per model once all but the first are unloaded", "MB"),
}


class Curve(NamedTuple):
    """Figures over something that grows.

    Attributes:
        label: What grows.
        measures: What is measured at each point, with its unit.
    """

    label: str
    measures: dict[str, str]


CURVES = {
    "connections": Curve("connections", {"throughput": "requests/s", "median": "ms", "p99": "ms"}),
    "models": Curve("scikit-learn models loaded", {"memory": "MB", "load": "ms"}),
    "body": Curve("bytes of an NPY body", {"median": "ms"}),
    "workers": Curve("workers", {"throughput": "requests/s"}),
}


@dataclass
class PeerFacts:
    """What is known of a peer.

    Attributes:
        title: Its name in the table.
        versions: Of the peer and of what matters to it.
        failure: Why it was not measured at all, or "".
        remarks: Why figures of it are missing.
    """

    title: str
    versions: dict[str, str] = field(default_factory=dict)
    failure: str = ""
    remarks: list[str] = field(default_factory=list)


@dataclass
class Results:
    """A run.

    Attributes:
        machine: Facts about the machine, each a name and a text.
        peers: Facts about the peers, in the order of the table.
        samples: Of each row and peer one figure a round.
        curves: Of each curve, peer, point (a number as text) and measure one figure a round.
        client_cpu: Of each row and peer how many CPUs the load generator used.
        codecs: Of each work of the codecs, the milliseconds and the ratio of each side, as codecs.py writes them.
    """

    machine: dict[str, str] = field(default_factory=dict)
    peers: dict[str, PeerFacts] = field(default_factory=dict)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    curves: dict[str, dict[str, dict[str, dict[str, list[float]]]]] = field(default_factory=dict)
    client_cpu: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    codecs: dict[str, dict[str, dict[str, dict[str, float]]]] = field(default_factory=dict)

    def add(self, row: str, peer: str, value: float) -> None:
        """Notes a figure of a row."""
        self.samples.setdefault(row, {}).setdefault(peer, []).append(value)

    def add_client_cpu(self, row: str, peer: str, value: float) -> None:
        """Notes what the load generator used for a figure."""
        self.client_cpu.setdefault(row, {}).setdefault(peer, []).append(value)

    def add_point(self, curve: str, peer: str, x: int, **values: float) -> None:
        """Notes the figures of a curve's point."""
        point = self.curves.setdefault(curve, {}).setdefault(peer, {}).setdefault(str(x), {})
        for measure, value in values.items():
            point.setdefault(measure, []).append(value)

    def remark(self, peer: str, text: str) -> None:
        """Notes why something of a peer is missing; once, however often it happens, and without paths."""
        text = re.sub(r"(?<![\w.:])/(?:[\w.+-]+/)+", "", " ".join(text.split()))
        if text not in self.peers[peer].remarks:
            self.peers[peer].remarks.append(text)

    def write(self, path: Path) -> None:
        """Writes a run to a file."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Reads what `write` wrote."""
        found: dict[str, Any] = json.loads(path.read_text())
        return cls(**{**found, "peers": {name: PeerFacts(**facts) for name, facts in found["peers"].items()}})
