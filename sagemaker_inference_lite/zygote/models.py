# SPDX-License-Identifier: Apache-2.0
"""What the zygote knows: the models that the front end has loaded, and the connections of their workers."""

from __future__ import annotations

import socket
import time
from enum import Enum

from sagemaker_inference_lite.ipc import wire
from sagemaker_inference_lite.ipc.connection import Connection
from sagemaker_inference_lite.ipc.events import Description, End, Event, LoadFailure
from sagemaker_inference_lite.ipc.worker_status import WorkerStatus
from sagemaker_inference_lite.worker import worker
from sagemaker_inference_lite.zygote.restarts import Restarts


class Model:
    """A model, from the first LOAD that names it to the end of its last connection.

    Attributes:
        number: No other model of the server's has had it, one of the same name neither.
        slots: Its connections.
        has_loaded: Some worker of it has loaded it.
        reload: The reload that is under way, or was last.
    """

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.slots: list[Slot] = []
        self.has_loaded = False
        self.reload = Reload(0, 0)


class ReloadState(Enum):
    """How far a reload is: LOADING becomes one of the others, once."""

    LOADING = "loading"
    COMPLETE = "complete"
    FAILED = "failed"


class Reload:
    """The workers that replace a model's others, all or none of them.

    Args:
        generation: Which of the model's reloads it is.
        size: How many workers it brings.
    """

    def __init__(self, generation: int, size: int) -> None:
        self.generation = generation
        self.begun = time.monotonic()
        self.state = ReloadState.LOADING
        self._missing = size

    def loaded(self) -> bool:
        """Note that one more worker has loaded the model; whether the reload is complete by that."""
        self._missing -= 1
        if self.state is ReloadState.LOADING and self._missing == 0:
            self.state = ReloadState.COMPLETE
            return True
        return False

    def failed(self) -> bool:
        """Note that a worker could not load the model; whether the reload has failed by that."""
        if self.state is ReloadState.LOADING:
            self.state = ReloadState.FAILED
            return True
        return False


class Slot:
    """One connection of the front end's, and the worker that serves it at the moment, if any does.

    Attributes:
        model: What it is for; None until LOAD has come.
        load: The front end's LOAD, None until it has come.
        pid: The worker; None where there is none at the moment.
        forked_at: When the worker was forked, on time.monotonic()'s clock.
        events: Where the worker says that it has loaded the model.
        told: The types of the events that it has told.
        is_refusing: This worker loads nothing, and refuses one request.
        loaded: This worker has loaded the model.
        answered_load: The front end has its answer to LOAD, from this worker or from one before it.
        load_deadline: When the worker must have loaded, on time.monotonic()'s clock.
        report: What the worker says of the load, for the log.
        description: What it says of the model.
        failure: Why the worker could not load the model, as it said itself; None unless it has.
        end: The worker's last event; None until it has come.
        restarts: Counts workers that ended unasked.
        refusal: What requests get until then, where workers keep ending.
        no_load_before: When the model may be loaded again, on the same clock.
        failed_tries: How often in a row the model could not be loaded.
        killed_because: Why the zygote has ended the worker.
        closed: The connection is given up; a worker may still be about to end.
    """

    def __init__(self, connection: Connection, page: WorkerStatus) -> None:
        self.connection = connection
        self.page = page
        self.model: Model | None = None
        self.load: wire.Load | None = None
        self.pid: int | None = None
        self.forked_at = 0.0
        self.events: socket.socket | None = None
        self.told: set[type[Event]] = set()
        self.is_refusing = False
        self.loaded = False
        self.answered_load = False
        self.load_deadline = float("inf")
        self.killed_because: worker.Refusal | None = None
        self.report = ""
        self.description: Description | None = None
        self.failure: LoadFailure | None = None
        self.end: End | None = None
        self.restarts = Restarts()
        self.refusal: worker.Refusal | None = None
        self.no_load_before = 0.0
        self.failed_tries = 0
        self.closed = False

    @property
    def model_name(self) -> str:
        """The name of its model."""
        return self.model.name if self.model else "(unknown)"

    @property
    def is_of_reload(self) -> bool:
        """Whether its worker replaces another, in the reload that is the model's last."""
        generation = self.load.generation if self.load else 0
        return self.model is not None and 0 < generation == self.model.reload.generation
