# SPDX-License-Identifier: Apache-2.0
"""commanded_handler.py, which does something to stdout and stderr when it is imported."""

import os

from commanded_handler import do_break, handle

__all__ = ["handle"]

do_break(os.environ["BREAKS"], None)
