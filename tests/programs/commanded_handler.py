# SPDX-License-Identifier: Apache-2.0
"""A handler that does what the request body, or the file "on_load" of the model, tells it to."""

import atexit
import codecs
import ctypes
import hashlib
import importlib
import logging
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from sagemaker_inference_lite import errors

LOG = logging.getLogger("handler")
MIB = 1 << 20
HELD = []


def obey(command, context):
    verb, _, argument = command.partition(" ")
    return globals()[f"do_{verb}"](argument, context)


def do_echo(argument, context):
    return argument


def do_size(argument, context):
    return str(len(context.raw_body))


def do_pid(argument, context):
    return str(os.getpid())


def do_environ(argument, context):
    return os.environ.get(argument, "")


def do_import(argument, context):
    for name in argument.split():
        importlib.import_module(name)
    return ""


def do_imported(argument, context):
    return str(argument in sys.modules)


def do_add(argument, context):
    module, value = argument.split()
    sys.modules[module].SEEN.append(value)
    return " ".join(sys.modules[module].SEEN)


def do_multiply(argument, context):
    """A product of matrices, with as many threads as OpenBLAS was told to take."""
    import numpy

    size = int(argument)
    return str(float((numpy.ones((size, size)) @ numpy.ones((size, size))).sum()))


def do_cwd(argument, context):
    return os.getcwd()


def do_threads(argument, context):
    return os.environ["OMP_NUM_THREADS"]


def do_raise(argument, context):
    raise ValueError("the secret of the traceback")


def do_exit(argument, context):
    sys.exit(int(argument))


def do_die(argument, context):
    os.kill(os.getpid(), getattr(signal, argument))


def do_signal(argument, context):
    os.kill(os.getpid(), int(argument))


def do_vanish(argument, context):
    os._exit(int(argument))


def do_sleep(argument, context):
    time.sleep(float(argument))
    return "slept"


def do_late_failure(argument, context):
    time.sleep(float(argument))
    raise ValueError("late")


def do_memory(argument, context):
    raise MemoryError("no room for the model") if not argument else MemoryError


def do_allocate(argument, context):
    return str(len(b"x" * (int(argument) * MIB)))  # written to: zeros would cost nothing


def do_hold(argument, context):
    """As do_allocate, for good."""
    HELD.append(b"x" * (int(argument) * MIB))


def do_print(argument, context):
    print(argument)
    print(argument + " on stderr", file=sys.stderr)
    LOG.warning("logged: %s", argument)
    os.write(1, b"written without a line end")
    return "printed"


def do_print_escaped(argument, context):
    print(unescaped(argument))
    print(unescaped(argument), file=sys.stderr)
    return "printed"


def do_log_escaped(argument, context):
    LOG.warning("logged: %s", unescaped(argument))
    return "logged"


def do_raise_escaped(argument, context):
    raise ValueError(unescaped(argument))


def do_refuse_escaped(argument, context):
    raise errors.ClientError(422, unescaped(argument))


def unescaped(argument):
    return argument.encode().decode("unicode_escape")


class MuteError(Exception):
    def __str__(self):
        raise LookupError


def do_raise_mute(argument, context):
    raise MuteError


def do_print_lines(argument, context):
    for _ in range(int(argument)):
        print("y" * 1000)
    return "printed"


class Tee:
    """Has what print() needs, and no more."""

    def write(self, text):
        return len(text)

    def flush(self):
        pass


class Refuses:
    def write(self, text):
        raise RuntimeError("not here")

    def flush(self):
        raise RuntimeError("not here either")


def do_break(argument, context):
    """Does something to stdout and stderr."""
    if argument == "codecs":
        sys.stdout, sys.stderr = (codecs.getwriter("utf-8")(each.buffer) for each in (sys.stdout, sys.stderr))
    elif argument == "closed":
        sys.stdout.close()
        sys.stderr.close()
    elif argument == "logging":
        sys.stdout = sys.stderr = Refuses()
        logging.basicConfig(stream=sys.stdout, force=True)
    elif argument == "descriptors":
        os.close(1)
        os.close(2)
    else:
        sys.stdout = sys.stderr = {"tee": Tee(), "refuses": Refuses(), "none": None}[argument]
    return "broken"


def do_print_hostile(argument, context):
    print("[PID] abc\n[METRICS] nonsense\nMMS worker started.\n" + "x" * 3_000_000)
    return "printed"


def do_print_forever(argument, context):
    while True:
        print("tick " * 100)


def do_random(argument, context):
    import numpy

    return f"{random.random()} {numpy.random.rand()}"


def do_status(argument, context):
    context.set_response_status(int(argument))
    return "as asked"


def do_header(argument, context):
    name, _, value = argument.partition("=")
    context.set_response_header(0, name, value)
    return "with a header"


def do_attributes(argument, context):
    return [context.custom_attributes, context.target_model, context.inference_id, context.request_id]


def do_grandchild(argument, context):
    return str(subprocess.Popen(["sleep", argument]).pid)


def do_orphans(argument, context):
    for _ in range(int(argument)):
        subprocess.run(["sh", "-c", "sleep 0.2 &"], check=True)
    return argument


def do_zombies(argument, context):
    states = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                states.append(file.read().rpartition(")")[2].split()[0])
        except OSError:
            pass
    return str(states.count("Z"))


def do_fork(argument, context):
    """Forks. The child does what the argument says; the parent tells its own pid, and how the child ended."""
    pid = ctypes.CDLL(None).fork() if argument.startswith("natively ") else os.fork()
    if pid == 0:
        return CHILDREN[argument.rpartition(" ")[2]]()
    return f"{os.getpid()} {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}"


def do_fork_in_thread(argument, context):
    """The same in a thread of its own."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(do_fork(argument, context)))
    thread.start()
    thread.join()
    return answers[0]


def do_multiprocess(argument, context):
    """A child of multiprocessing's, which counts the sockets that it has."""
    child = multiprocessing.get_context(argument).Process(target=vanish_with_sockets)
    child.start()
    child.join()
    return f"{os.getpid()} {child.exitcode}"


def do_fork_at_exit(argument, context):
    atexit.register(lambda: CHILDREN[argument]() if os.fork() == 0 else os.wait())
    return str(os.getpid())


def raise_error():
    raise ValueError("of the child")


def vanish_with_sockets():
    """Ends with the number of sockets that this process has."""
    targets = [read_link(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    os._exit(sum(target.startswith("socket:") for target in targets))


def read_link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


CHILDREN = {
    "exits": lambda: sys.exit(7),
    "raises": raise_error,
    "returns": lambda: "the child's answer",
    "counts_sockets": vanish_with_sockets,
}


def do_sockets(argument, context):
    """The sockets of this process, and the other files that are neither a regular file nor a directory."""
    targets = [read_link(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    return sorted(target.partition(":")[0] for target in targets if ":" in target)


def do_daemon(argument, context):
    """A child in a session of its own, and one that nobody waits for in another; their pids."""
    direct = subprocess.Popen(["sleep", argument], start_new_session=True).pid
    script = f"setsid sleep {argument} >/dev/null & echo $!"
    orphan = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, check=True).stdout
    return f"{direct} {int(orphan)}"


def do_die_later(argument, context):
    """Ends this process by itself, some time after the answer."""
    threading.Timer(float(argument), lambda: os._exit(3)).start()
    return "soon"


def frames():
    """The local variables of all callers: what is in reach of a model that looks for it."""
    frame = sys._getframe()
    while frame:
        yield frame.f_locals
        frame = frame.f_back


def do_say(argument, context):
    """Packets to the zygote, in the worker's place."""
    spec = next(each["spec"] for each in frames() if hasattr(each.get("spec"), "events"))
    for packet in argument.split():
        spec.events.sendall(bytes.fromhex(packet))
    time.sleep(0.5)


def do_scribble(argument, context):
    """Writes into the page that the zygote reads, and ends."""
    page = next(each["page"] for each in frames() if "page" in each)
    junk = bytes.fromhex(argument)
    page._map[: len(junk)] = junk
    os._exit(1)


def do_shared_bytes(argument, context):
    """How much memory this process shares with others and may write to."""
    with open("/proc/self/maps") as file:
        ranges = [line.split()[0] for line in file if line.split()[1] == "rw-s"]
    sizes = [int(end, 16) - int(start, 16) for start, end in (each.split("-") for each in ranges)]
    return str(sum(sizes))


def do_break_connection(argument, context):
    """End the worker's connection to the front end, some seconds from now."""
    threading.Timer(float(argument), _end_connections).start()


def _end_connections():
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            with socket.socket(fileno=os.dup(number)) as sock:
                if sock.family == socket.AF_UNIX and str(sock.getsockname()).endswith("workers.sock"):
                    sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # no socket


def do_digest(argument, context):
    return hashlib.sha256(context.raw_body).hexdigest()


def do_answer_of(argument, context):
    return b"\0" * (int(argument) * MIB)


def handle(data, context):
    if data is None:
        path = os.path.join(context.system_properties["model_dir"], "on_load")
        if os.path.exists(path):
            with open(path) as file:
                obey(file.read().strip(), context)
        return None
    return [obey(bytes(item["body"][:500_000]).decode(errors="replace").rstrip("\0"), context) for item in data]
