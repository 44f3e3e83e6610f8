# SPDX-License-Identifier: Apache-2.0
"""A child that misbehaves: misbehaves.py FD VERB [ARGUMENT]. It says "ready" on the file descriptor FD.

Whatever it starts holds FD too, so the end of what comes from there is the end of all of them.
"""

import os
import signal
import subprocess
import sys
import time

FOREVER = 1000


def ready():
    os.write(FD, b"ready\n")


def exit(argument):
    ready()
    sys.exit(int(argument))


def die(argument):
    ready()
    os.kill(os.getpid(), int(argument))


def hang(argument):
    """Takes no notice of any signal that can be ignored."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    ready()
    time.sleep(FOREVER)


def leave(argument):
    """Starts a child that hangs; then exits, or hangs as well."""
    subprocess.Popen([sys.executable, __file__, str(FD), "hang"], pass_fds=[FD])
    if argument == "hang":
        time.sleep(FOREVER)


def print_forever(argument):
    ready()
    while True:
        os.write(1, b"tick tick tick\n" * 100)


def print_line(argument):
    """Prints a line of so many bytes without an end."""
    ready()
    data = b"x" * int(argument)
    while data:
        data = data[os.write(1, data) :]


def say_environment(argument):
    os.write(FD, repr(sorted(os.environ)).encode())


def say_open(argument):
    os.write(FD, repr([number for number in range(3, 256) if is_open(number)]).encode())


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def echo(argument):
    """Says what comes from stdin, until that ends."""
    ready()
    for line in sys.stdin:
        os.write(FD, line.encode())
    os.write(FD, b"the end of stdin\n")


FD = int(sys.argv[1])

if __name__ == "__main__":
    globals()[sys.argv[2]](sys.argv[3] if len(sys.argv) > 3 else "")
