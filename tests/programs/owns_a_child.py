# SPDX-License-Identifier: Apache-2.0
"""A parent that is to be killed: owns_a_child.py FD VERB. Its child is misbehaves.py, with these arguments."""

import os
import sys
import time

from sagemaker_inference_lite.supervision.child import ChildProcess

program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "misbehaves.py")
fd = int(sys.argv[1])
child = ChildProcess("The child", [sys.executable, program, *sys.argv[1:]], os.environ, pass_fds=[fd], commands=True)
os.set_inheritable(fd, False)
os.close(fd)
time.sleep(1000)
