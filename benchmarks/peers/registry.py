# SPDX-License-Identifier: Apache-2.0
"""All peers, in the order of the table."""

from __future__ import annotations

from benchmarks.peers.bentoml import BentoML
from benchmarks.peers.litserve import LitServe
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import Peer
from benchmarks.peers.toolkit import Toolkit
from benchmarks.peers.triton import Triton

PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Ours, Toolkit, Triton, LitServe, BentoML)}
