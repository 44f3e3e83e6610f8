# SPDX-License-Identifier: Apache-2.0
"""Preloaded by the server that benchmarks/memory.py measures: has each worker note its private memory at each step.

The steps are wrapped from outside, in the process that workers are forked from, so a server without this module has
nothing of it. What notes them allocates next to nothing, since that would be measured too.
"""

import os

from sagemaker_inference_lite.handlers import inference_script
from sagemaker_inference_lite.worker import responses, spec, worker

_NOTES = os.open(os.environ["MEASURED_BIRTHS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
_BUFFER = bytearray(1 << 13)
_VIEWS = [memoryview(_BUFFER)[:size] for size in range(len(_BUFFER))]


def _note(step):
    """Append what the kernel says of this process's memory (proc_pid_smaps(5)), with its pid and the step."""
    rollup = os.open("/proc/self/smaps_rollup", os.O_RDONLY)
    size = os.readv(rollup, [_BUFFER])
    os.close(rollup)
    os.writev(_NOTES, [b"%s %d\n" % (step, os.getpid()), _VIEWS[size], b"\n"])


def _noted(module, name, step):
    function = getattr(module, name)

    def noting(*arguments, **keywords):
        result = function(*arguments, **keywords)
        _note(step)
        return result

    setattr(module, name, noting)


os.register_at_fork(after_in_child=lambda: _note(b"forked"))
_noted(spec, "become_worker", b"a worker")
_noted(worker, "put_first_on_path", b"code on the path")
_noted(inference_script, "load", b"program imported")
_noted(worker, "load_model", b"model loaded")
_noted(worker, "_receive", b"request received")
_noted(responses, "answer", b"answered")
