# SPDX-License-Identifier: Apache-2.0
"""A parent of workers: forks_workers.py VERB. What a worker prints comes back through a pipe, as from the zygote."""

import json
import os
import random
import signal
import sys
import time

import numpy

from sagemaker_inference_lite.worker import after_fork

WORKERS = 3


def fork(work):
    """Forks a worker; returns its pid and the pipe that it prints to."""
    source, sink = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            after_fork.become_worker(parent, sink, 2)
            os.close(source)
            os.close(sink)
            work()
        finally:
            os._exit(0)
    os.close(sink)
    return pid, source


def read_all(source):
    with open(source) as file:
        return file.read()


def draws():
    return [random.random(), float(numpy.random.rand()), int(numpy.random.randint(2**31))]


def random_numbers():
    """The numbers that workers draw, and those that their parent would draw next."""
    random.seed(1)
    numpy.random.seed(1)
    sources = [fork(lambda: print(json.dumps(draws())))[1] for _ in range(WORKERS)]
    print(json.dumps([draws(), *(json.loads(read_all(source)) for source in sources)]))


def state_of_a_worker():
    """What a worker is like, next to its parent."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    _, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.set_wakeup_fd(sender)

    def say():
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        handlers = [signal.getsignal(number) == signal.SIG_DFL for number in numbers]
        with open("/proc/self/oom_score_adj") as file:
            score = int(file.read())
        print(json.dumps([os.getpgid(0) == os.getpid(), handlers, signal.set_wakeup_fd(-1), score]))

    print(read_all(fork(say)[1]))


def lines_at_once():
    """A worker prints a line to each stream without flushing, and hangs."""

    def work():
        print("on stdout")
        time.sleep(1000)

    pid, source = fork(work)
    with open(source) as file:
        print(file.readline(), end="", flush=True)
    os.kill(pid, signal.SIGKILL)


def be_killed():
    """Waits to be killed, with a worker that holds stdout as well and hangs."""

    def work():
        os.write(keep, b"ready\n")
        time.sleep(1000)

    keep = os.dup(1)
    fork(work)
    os.close(1)
    os.close(keep)
    time.sleep(1000)


def orphan():
    """A worker whose parent has ended before it could ask for anything."""
    if os.fork() == 0:
        after_fork.die_with_parent(parent=-1)
        print("still there", flush=True)
        os._exit(0)
    os.wait()


globals()[sys.argv[1]]()
