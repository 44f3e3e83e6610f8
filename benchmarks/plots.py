# SPDX-License-Identifier: Apache-2.0
"""The plots: one PNG for each subject, every peer in the same colour throughout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.results import CURVES, ROWS, Results

matplotlib.use("Agg")

# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = {"ours": "#0072B2", "toolkit": "#D55E00", "triton": "#009E73", "litserve": "#CC79A7", "bentoml": "#E69F00"}
MARKERS = {"ours": "o", "toolkit": "s", "triton": "^", "litserve": "D", "bentoml": "v"}


def draw(results: Results, directory: Path) -> list[Path]:
    """Draws what the results have figures for.

    Args:
        results: A run.
        directory: Where to; it is made if need be.

    Returns:
        The files that were written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in _figures(results):
        figure.text(0.01, 0.01, _machine(results), fontsize=6, color="#555555")
        figure.tight_layout(rect=(0, 0.04, 1, 1))
        path = directory / f"{name}.png"
        figure.savefig(path, dpi=110)
        pyplot.close(figure)
        written.append(path)
    return written


def _machine(results: Results) -> str:
    facts = [results.machine[name] for name in ("CPUs", "memory", "load generator") if name in results.machine]
    return "; ".join(facts) + "; medians, shaded from the least to the most of the rounds"


def _figures(results: Results) -> Iterator[tuple[str, Figure]]:
    if "connections" in results.curves:
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
        _curve(left, results, "connections", "throughput", "Small JSON, 2 workers: throughput", log_y=False)
        _curve(right, results, "connections", "median", "Small JSON, 2 workers: median latency")
        yield "concurrency", figure
    if "models" in results.curves:
        figure, axes = pyplot.subplots(figsize=(6, 4))
        _curve(axes, results, "models", "memory", "Memory (PSS) of a multi-model server, each model asked once")
        yield "models", figure
    if "load" in results.samples:
        figure, axes = pyplot.subplots(figsize=(6, 4))
        _bars(axes, results, {"load_first": "the first", "load": "a further one"}, "Load of a scikit-learn model")
        yield "load", figure
    if "body" in results.curves:
        figure, axes = pyplot.subplots(figsize=(6, 4))
        _curve(axes, results, "body", "median", "NPY in, small answer out: median latency")
        yield "body", figure
    if "workers" in results.curves:
        figure, axes = pyplot.subplots(figsize=(6, 4))
        _curve(axes, results, "workers", "throughput", "Small JSON, 32 connections: throughput", log_y=False)
        yield "workers", figure


def _curve(axes: Axes, results: Results, name: str, measure: str, title: str, log_y: bool = True) -> None:
    """One line a peer."""
    curve = CURVES[name]
    ticks: set[int] = set()
    for peer, points in results.curves[name].items():
        # What was measured where; a model's load has no figure at the first point, say.
        known = sorted((int(x), values[measure]) for x, values in points.items() if values.get(measure))
        places = [x for x, _ in known]
        ticks.update(places)
        style = {"color": COLOURS.get(peer, "#000000")}
        axes.plot(
            places,
            [median(values) for _, values in known],
            marker=MARKERS.get(peer, "."),
            markersize=5,
            label=results.peers[peer].title,
            **style,
        )
        axes.fill_between(
            places, [min(values) for _, values in known], [max(values) for _, values in known], alpha=0.2, lw=0, **style
        )
    axes.set_xscale("log", base=10 if name == "body" else 2)
    axes.set_xticks(sorted(ticks), minor=False)
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.xaxis.set_minor_locator(NullLocator())
    if log_y:
        axes.set_yscale("log")
        # Some plots span less than a power of ten, and would have no tick at all.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:
        # Room for the legend above the lines.
        axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
    axes.yaxis.set_major_formatter(FuncFormatter(_short))
    axes.yaxis.set_minor_locator(NullLocator())
    _finish(axes, title, curve.label, curve.measures[measure])


def _bars(axes: Axes, results: Results, rows: dict[str, str], title: str) -> None:
    """A group of bars for each row, a bar for each peer, with its figure on top."""
    peers = [peer for peer in results.peers if any(peer in results.samples.get(row, {}) for row in rows)]
    width = 0.8 / max(1, len(peers))
    for place, peer in enumerate(peers):
        heights = [median(results.samples.get(row, {}).get(peer, [0.0])) for row in rows]
        xs = [group + (place - (len(peers) - 1) / 2) * width for group in range(len(rows))]
        bars = axes.bar(xs, heights, width * 0.95, color=COLOURS.get(peer, "#000000"), label=results.peers[peer].title)
        axes.bar_label(bars, [f"{height:.0f}" if height else "" for height in heights], fontsize=8)
    axes.set_xticks(range(len(rows)), rows.values())
    axes.margins(y=0.15)
    _finish(axes, title, "", ROWS["load"].unit)


def _finish(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(True, which="major", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, frameon=False, loc="upper left", ncols=2)


def _short(value: float, _: object = None) -> str:
    """1500000 as 1.5M."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"
