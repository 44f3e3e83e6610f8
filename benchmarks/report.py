# SPDX-License-Identifier: Apache-2.0
"""The table: of each row and peer the median over the rounds, how far they were apart, and the ratios."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.results import ROWS, Results

MISSING = "-"


def number(value: float) -> str:
    """A figure with three significant digits, without an exponent."""
    for limit, places in ((100, 0), (10, 1), (1, 2)):
        if value >= limit:
            return f"{value:,.{places}f}"
    return f"{value:.3f}"


def cell(values: Sequence[float]) -> str:
    """The median and, where there were several rounds, the least and the most."""
    if not values:
        return MISSING
    spread = f" ({number(min(values))} to {number(max(values))})" if len(values) > 1 else ""
    return number(median(values)) + spread


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The median of the one over that of the other."""
    if not ours or not theirs or median(theirs) <= 0:
        return MISSING
    quotient = median(ours) / median(theirs)
    return f"{quotient:.2g}x" if quotient < 10 else f"{quotient:.0f}x"


def table(results: Results) -> str:
    """The figures as a Markdown table, a row for each row that any peer has."""
    shown = [name for name, facts in results.peers.items() if not facts.failure]
    others = [name for name in shown if name != "ours"] if "ours" in shown else []
    titles = {name: results.peers[name].title for name in shown}
    heads = ["work", "unit", *titles.values(), *(f"ours / {titles[name]}" for name in others)]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for key, row in ROWS.items():
        samples = results.samples.get(key, {})
        cells = [cell(samples.get(name, [])) for name in shown]
        ratios = [ratio(samples.get("ours", []), samples.get(name, [])) for name in others]
        if samples:
            arrow = "more is better" if row.more_is_better else "less is better"
            lines.append(_line([row.label, f"{row.unit}, {arrow}", *cells, *ratios]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def codecs_table(results: Results) -> str:
    """The figures of the codecs as a Markdown table; "" where they were not measured."""
    lines: list[str] = []
    for work, figures in results.codecs.items():
        milliseconds, ratios = figures["milliseconds"], figures["ratio"]
        if not lines:
            heads = ["codec", "unit", *milliseconds, *(f"{name} / {next(iter(milliseconds))}" for name in ratios)]
            lines = [_line(heads), _line(["---"] * len(heads))]
        cells = [number(each["median"]) for each in milliseconds.values()]
        lines.append(_line([work, "ms", *cells, *(f"{each['median']:.2g}x" for each in ratios.values())]))
    return "\n".join(lines)


def notes(results: Results) -> str:
    """Under the table: the machine, the versions, and what is missing and why."""
    lines = [f"- {name}: {value}" for name, value in results.machine.items()]
    for facts in results.peers.values():
        versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
        if facts.failure:
            lines.append(f"- {facts.title} was not measured: {facts.failure}")
        else:
            lines.append(f"- {facts.title}: {versions}")
        lines += [f"- {facts.title}: {remark}" for remark in facts.remarks]
    used = [value for values in results.client_cpu.get("small", {}).values() for value in values]
    if used:
        lines.append(f"- the load generator used {min(used):.2f} to {max(used):.2f} CPUs in the first row")
    return "\n".join(lines)


def markdown(results: Results) -> str:
    """Everything that is printed at the end of a run."""
    explained = "Medians over the rounds; in brackets the least and the most of them."
    tables = "\n\n".join(filter(None, [table(results), codecs_table(results)]))
    return f"{tables}\n\n{explained}\n\n{notes(results)}"
