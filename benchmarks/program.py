# SPDX-License-Identifier: Apache-2.0
"""Measures this library beside its peers, in one run: make bench, or make bench-quick.

Each peer is built from the package index into an environment of its own. In each round each peer has its turn, so
that what disturbs the machine for a while disturbs all of them. The table goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from benchmarks import machine, report
from benchmarks.environment import ROOT, PrepareError, version
from benchmarks.load import Generator, LoadError, find_generator
from benchmarks.measure import QUICK, Bench, Plan
from benchmarks.peers.peer import Peer
from benchmarks.peers.registry import PEERS
from benchmarks.results import PeerFacts, Results

QUICK_PEERS = ("ours", "toolkit")

_CODECS_SECONDS = 600


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="ours and the toolkit, the main rows, under 3 minutes")
    parser.add_argument("--only", action="append", choices=PEERS, help="a peer to measure; may be repeated")
    parser.add_argument("--skip", action="append", choices=PEERS, default=[], help="a peer to leave out")
    parser.add_argument("--rounds", type=int, help="how often each peer has its turn")
    parser.add_argument("--curve-rounds", type=int, help="in how many of the rounds the curves are measured too")
    parser.add_argument("--seconds", type=int, help="how long each interval is that counts")
    parser.add_argument("--warm-seconds", type=int, help="how long a server is under load before that")
    parser.add_argument("--most-models", type=int, help="how many models the curve over models ends with, for ours")
    parser.add_argument("--generator", choices=("wrk", "aiohttp"), help="the load generator; wrk where it is installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="write plots as PNG")
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", help="measure nothing; show a --json file")
    return parser


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that the command line asks for."""
    plan = QUICK if arguments.quick else Plan()
    names = ("rounds", "curve_rounds", "seconds", "warm_seconds")
    asked = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.most_models is not None:
        asked["most_models"] = (arguments.most_models, min(arguments.most_models, plan.most_models[1]))
    return replace(plan, **asked)


def names_of(arguments: argparse.Namespace) -> list[str]:
    """The peers that the command line asks for, in the order of the table."""
    asked = arguments.only or (QUICK_PEERS if arguments.quick else tuple(PEERS))
    return [name for name in PEERS if name in asked and name not in arguments.skip]


def run(names: Sequence[str], plan: Plan, generator: Generator, results: Results) -> None:
    """Measures peers; those that cannot be are in the results with the reason."""
    results.machine["load generator"] = f"{generator.title}, on the same machine"
    results.machine["rounds"] = f"{plan.rounds}, intervals of {plan.seconds} s after {plan.warm_seconds} s to warm up"
    with contextlib.ExitStack() as stack:
        peers = [peer for peer in (_built(name, results, stack) for name in names) if peer]
        results.machine["other work"] = f"load average {machine.busy_cpus():.1f} before the first round"
        # Servers make sockets below it, whose paths may not be long.
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp")))
        bench = Bench(plan, generator, results, scratch)
        for number in range(plan.rounds):
            for peer in peers:
                print(f"round {number + 1} of {plan.rounds}: {peer.title}", file=sys.stderr, flush=True)
                bench.round(peer, number)


def add_codecs(results: Results) -> None:
    """Measures the codecs, in a program of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        argv = [sys.executable, str(ROOT / "benchmarks" / "codecs.py"), "--json", file.name]
        print("codecs", file=sys.stderr, flush=True)
        done = subprocess.run(argv, stdout=subprocess.DEVNULL, timeout=_CODECS_SECONDS)
        if done.returncode:
            results.machine["codecs"] = f"not measured: benchmarks/codecs.py ended with status {done.returncode}"
        else:
            results.codecs = json.loads(Path(file.name).read_text())["figures"]


def _built(name: str, results: Results, stack: contextlib.ExitStack) -> Peer | None:
    """A peer that is ready to be measured; None where it cannot be."""
    peer = PEERS[name]()
    facts = results.peers[name] = PeerFacts(peer.title)
    try:
        peer.environment = peer.build()
        facts.versions = {each: version(peer.environment, each) for each in peer.distributions}
        facts.failure = peer.obstacle()
    except PrepareError as error:
        facts.failure = str(error).splitlines()[-1]
    if facts.failure:
        print(f"{peer.title} is left out: {facts.failure}", file=sys.stderr, flush=True)
        return None
    stack.callback(peer.clean_up)
    return peer


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def show(results: Results, arguments: argparse.Namespace) -> None:
    """Prints and writes what was asked for."""
    print(report.markdown(results))
    if arguments.json:
        results.write(arguments.json)
    if arguments.plots:
        from benchmarks import plots  # matplotlib takes a second to import

        for file in plots.draw(results, arguments.plots):
            print(f"{file} written", file=sys.stderr)


def main() -> int:
    """Does what the command line says; 1 where something of this library could not be measured."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.source:
        show(Results.read(arguments.source), arguments)
        return 0
    try:
        generator = find_generator(arguments.generator)
    except LoadError as error:
        parser.error(str(error))
    if generator.title == "aiohttp":
        print(
            "aiohttp makes the load, which costs more CPU than wrk (Debian: apt-get install wrk)",
            file=sys.stderr,
        )
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    begun, results, status = time.monotonic(), Results(machine=machine.facts()), 0
    try:
        run(names_of(arguments), plan_of(arguments), generator, results)
        if not (arguments.quick or arguments.only):
            add_codecs(results)
    except KeyboardInterrupt:
        results.machine["interrupted"] = "before the last round was over"
        status = 130
    show(results, arguments)
    print(f"measured in {(time.monotonic() - begun) / 60:.1f} minutes", file=sys.stderr)
    ours = results.peers.get("ours")
    return status or int(ours is not None and bool(ours.failure or ours.remarks))


if __name__ == "__main__":
    sys.exit(main())
