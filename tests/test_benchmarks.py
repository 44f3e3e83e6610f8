# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks do with figures once they have them, and that no server outlives its measurement."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

# Behind everything else: the package that is tested is the installed one.
sys.path.append(str(Path(__file__).resolve().parents[1]))
from benchmarks import environment, first_answer, load, machine, measure, memory, program, report
from benchmarks.peers.peer import JSON, NPY
from benchmarks.peers.registry import PEERS
from benchmarks.results import ROWS, PeerFacts, Results
from benchmarks.server import ServerError, ServerProcess

# Starts a child in a session of its own, says so by writing a file, and waits.
pytestmark = pytest.mark.once

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
open("child", "w").write(str(child.pid))
time.sleep(60)
"""


@pytest.fixture
def results() -> Results:
    """Two peers, of which one lacks a row, and one that could not be built."""
    found = Results(machine={"CPUs": "2 x some"})
    found.peers = {"ours": PeerFacts("Ours", {"ours": "1"}), "toolkit": PeerFacts("Theirs", {"theirs": "2"})}
    found.peers["triton"] = PeerFacts("Triton", failure="it needs a library")
    for value in (100.0, 300.0, 200.0):
        found.add("small", "ours", value)
        found.add("small", "toolkit", value / 4)
    found.add("load", "ours", 31.4)
    return found


def parsed(*arguments: str) -> argparse.Namespace:
    """A command line."""
    return program._parser().parse_args(arguments)


def test_a_cell_shows_the_median_and_how_far_the_rounds_were_apart() -> None:
    """The spread is shown where there were several rounds; a figure that is missing is a dash."""
    assert report.cell([3.0, 1.0, 2.0]) == "2.00 (1.00 to 3.00)"
    assert report.cell([1234.5]) == "1,234"
    assert report.cell([]) == report.MISSING


@pytest.mark.parametrize(
    ("ours", "theirs", "shown"),
    [([4.0], [1.0], "4x"), ([1.0], [30.0], "0.033x"), ([150.0], [10.0], "15x"), ([], [1.0], "-"), ([1.0], [0.0], "-")],
)
def test_a_ratio_is_of_medians(ours: list[float], theirs: list[float], shown: str) -> None:
    """It is ours over theirs, and a dash where either is missing."""
    assert report.ratio(ours, theirs) == shown


def test_the_table_has_what_was_measured(results: Results) -> None:
    """Each row that any peer has is there once, with the ratio, and rows that none has are not."""
    heads, _, *rows = report.table(results).splitlines()
    assert heads == "| work | unit | Ours | Theirs | ours / Theirs |"
    assert rows[0].endswith("| 200 (100 to 300) | 50.0 (25.0 to 75.0) | 4x |")
    assert rows[1].startswith(f"| {ROWS['load'].label} | ms, less is better | 31.4 | - | - |")
    assert len(rows) == 2


def test_a_peer_that_was_not_measured_is_named_with_the_reason(results: Results) -> None:
    """Nothing is left out silently."""
    assert "- Triton was not measured: it needs a library" in report.markdown(results)


def test_a_remark_is_noted_once_and_without_paths(results: Results) -> None:
    """What failed in each round is one remark, and tells nothing of where it was measured."""
    for _ in range(2):
        results.remark("toolkit", "it cannot read /somewhere/private/file.txt\nof http://127.0.0.1:80/ping")
    assert results.peers["toolkit"].remarks == ["it cannot read file.txt of http://127.0.0.1:80/ping"]


def test_results_come_back_from_their_file(results: Results, tmp_path: Path) -> None:
    """A file shows the same as the run that wrote it."""
    results.add_point("models", "ours", 500, memory=1.5, load=30.0)
    results.write(tmp_path / "run.json")
    assert Results.read(tmp_path / "run.json") == results


def test_what_wrk_measured_is_read() -> None:
    """Microseconds become milliseconds, and the generator's own CPU time a share of the interval."""
    line = '{"requests": 600, "microseconds": 2000000, "errors": 1, "p50": 250.0, "p90": 500.0, "p99": 1500.0}'
    found = load.parse_wrk(f"Running 2s test\n{line}\n", cpu_seconds=0.5)
    assert (found.per_second, found.errors, found.p50_ms, found.p99_ms, found.client_cpu) == (300.0, 1, 0.25, 1.5, 0.25)


@pytest.mark.parametrize(
    "output", ["unable to connect", '{"requests": 0, "microseconds": 1, "errors": 9, "p50": 0, "p90": 0, "p99": 0}']
)
def test_no_answer_is_no_figure(output: str) -> None:
    """An interval without an answered request is an error that quotes the generator."""
    with pytest.raises(load.LoadError, match="not one request"):
        load.parse_wrk(output, 0.1)


def test_percentiles() -> None:
    """The value that this share of the values does not exceed."""
    values = [float(value) for value in range(100, 0, -1)]
    assert [load.percentile(values, share) for share in (0.5, 0.99)] == [51.0, 100.0]


def test_the_command_line_chooses_peers() -> None:
    """All of them, or two where it must be quick, or those that are named."""
    assert program.names_of(parsed()) == list(PEERS)
    assert program.names_of(parsed("--quick")) == ["ours", "toolkit"]
    assert program.names_of(parsed("--only", "triton", "--only", "ours")) == ["ours", "triton"]
    assert "bentoml" not in program.names_of(parsed("--skip", "bentoml"))


def test_the_command_line_changes_the_plan() -> None:
    """What is not said stays as the plan has it; no peer but ours goes on to hundreds of models."""
    plan = program.plan_of(parsed("--quick", "--rounds", "7", "--most-models", "50"))
    assert (plan.rounds, plan.seconds, plan.most_models) == (7, measure.QUICK.seconds, (50, 10))


def test_bodies_are_what_they_are_called() -> None:
    """The small one is 27 bytes, and an NPY body as long as asked, bar a row, and within the servers' limit."""
    assert len(measure.SMALL) == 27
    for size in measure.BODIES:
        assert size - 8 * measure.FEATURES <= len(measure.npy(size)) <= size <= 25 * 2**20


def test_the_small_and_the_large_body_have_one_right_answer() -> None:
    """Every peer's answers are compared with the product that is computed here."""
    assert measure.expected(np.ones((2, 2)), np.eye(2)) == 4.0


@pytest.mark.parametrize("name", [name for name in PEERS if name != "ours"])
def test_each_peer_has_its_requirements(name: str) -> None:
    """An environment is made from a file that says what is in it."""
    assert environment.REQUIREMENTS.joinpath(f"{name}.txt").is_file()


@pytest.mark.parametrize("peer", PEERS.values())
def test_requests_say_their_type(peer: type) -> None:
    """A client that sends no content type sends a form, which some peers refuse."""
    for content_type in (JSON, NPY):
        assert peer().request("http://127.0.0.1:1", b"[]", content_type, "a").headers["Content-Type"]


def test_the_machine_is_described_without_its_name() -> None:
    """Whoever publishes figures tells what they were measured on, and not where."""
    assert os.uname().nodename not in " ".join(machine.facts().values())


def test_a_server_leaves_nothing_behind(tmp_path: Path) -> None:
    """A process ends with its server even if it is in a session of its own and nobody else would end it."""
    with ServerProcess([sys.executable, "-c", FAMILY], dict(os.environ), tmp_path) as server:
        server.wait_until(lambda: (tmp_path / "child").exists() and bool((tmp_path / "child").read_text()), 20, "start")
        child = psutil.Process(int((tmp_path / "child").read_text()))
        assert child in server.processes()
        assert server.pss_bytes() > 1_000_000
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_server_that_ends_says_its_last_words(tmp_path: Path) -> None:
    """Why a peer could not be measured is in the report, and not in a log that is gone."""
    argv = [sys.executable, "-c", "raise SystemExit('no licence')"]
    said = "status 1 before it could answer; its last words: no licence"
    with ServerProcess(argv, dict(os.environ), tmp_path) as server, pytest.raises(ServerError, match=said):
        server.wait_until(lambda: False, 20, "answer")


ROLLUP = "00400000-7ffd rollup\nPss: 9 kB\nPrivate_Clean: 4 kB\nPrivate_Dirty: {} kB\nPrivate_Hugetlb: 7 kB\n"


def test_births_are_told_apart_by_pid(tmp_path: Path) -> None:
    """A worker's private memory at each step is what is clean and dirty; what became no worker does not count."""
    noted = [("forked", 7, 4), ("forked", 8, 8), ("model loaded", 8, 12), ("answered", 8, 16), ("answered", 8, 20)]
    notes = tmp_path / "notes"
    notes.write_text("".join(f"{step} {pid}\n{ROLLUP.format(size)}\n" for step, pid, size in noted))
    (birth,) = memory.births(notes)
    sizes = {"forked": 12, "model loaded": 16, "first answer": 20, "second answer": 24}
    assert {step: birth[step] for step in sizes} == {step: 1024 * size for step, size in sizes.items()}


def test_the_table_of_memory_shows_what_each_step_adds() -> None:
    """A row a step, a column a Python: what there is, and what is new."""
    figures = {step: number / 2 for number, step in enumerate((*memory.STEPS, *memory.ANSWERS), 1)}
    head, _, first, second, *_ = memory.table({"3.11": figures}).splitlines()
    assert (head, first, second) == ("| MB after | 3.11 |", "| forked | 0.50 (+0.50) |", "| a worker | 1.00 (+0.50) |")


def test_each_way_to_a_first_answer_is_whole() -> None:
    """Each tool is installed first, is served before it is asked, and its files are named and counted."""
    for tool in first_answer.TOOLS.values():
        kinds = [step.kind for step in tool.steps]
        assert kinds[0] is first_answer.Kind.INSTALL
        assert kinds[-2:] == [first_answer.Kind.SERVE, first_answer.Kind.ASK]
        assert all(step.file for step in tool.steps if step.kind is first_answer.Kind.WRITE)
    assert first_answer.lines_written(first_answer.TOOLS["ours"]) == 0
    assert first_answer.lines_written(first_answer.TOOLS["litserve"]) > 10


def test_a_row_of_the_way_to_a_first_answer() -> None:
    """A row has the medians of its rounds."""
    found = [first_answer.Journey(each, 2 * each, "[0]", "9.9") for each in (1.0, 5.0, 3.0)]
    assert "| LitServe 9.9 | 4 | 20 | 3.0 | 6.0 |" in first_answer.table({"litserve": found})
