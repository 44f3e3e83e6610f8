# SPDX-License-Identifier: Apache-2.0
"""What MMS starts for each model (WorkerLifeCycle.java:110-178): a stub that hands the model over and waits.

The zygote serves the model. The front end wants a direct child whose life stands for the model's: it waits for
the line "MMS worker started." from it, and kills it when the model is unloaded. So this passes its arguments
to the zygote, says the line once the zygote listens, and then turns into a program that only waits, in well
under 1 MB. Its connection to the zygote stays open in that program: the end of it is how the zygote learns
that the model is gone. The program ends when the front end does, because its stdin does.
"""

import os
import sys

# The front end puts the handler's and the model's directory on PYTHONPATH: nothing there may stand in for a
# module of the standard library here.
del sys.path[0]
_foreign = {os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
sys.path.sort(key=lambda entry: os.path.abspath(entry) in _foreign)

import _socket  # noqa: E402  (after the clean-up above; the public socket module takes longer to import than all else)

READY = "MMS worker started."


def arguments(argv):
    """The front end's command line as a dict: every option takes a value."""
    return dict(zip((name[2:] for name in argv[::2]), argv[1::2]))


def hand_over(options):
    """Give the model to the zygote; returns the connection once the zygote listens for the front end."""
    import json

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.connect(os.path.join(options["tmp-dir"], "zygote.sock"))
    message = json.dumps(dict(options, pid=os.getpid())).encode() + b"\n"
    while message:
        message = message[connection.send(message) :]
    connection.recv(1)
    return connection


def wait():
    """Wait for the end of stdin, as a smaller program where there is one."""
    os.chdir("/")
    for program in ("/bin/cat", "/usr/bin/cat"):
        if os.access(program, os.X_OK):
            os.execve(program, ["model-stub"], {})
    while os.read(0, 4096):
        pass


def main():
    # A zygote that cannot be reached means that the whole server is ending. The front end must see the line all
    # the same: without it it would wait a minute and keep the model registered.
    try:
        connection = hand_over(arguments(sys.argv[1:]))
        os.set_inheritable(connection.fileno(), True)
    except OSError as error:
        os.write(2, ("the model was not handed over: %s\n" % error).encode())
    os.write(1, READY.encode() + b"\n")
    wait()


if __name__ == "__main__":
    main()
