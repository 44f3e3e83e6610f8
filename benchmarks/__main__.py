# SPDX-License-Identifier: Apache-2.0
"""Makes the harness's own environment and goes on in it: python -m benchmarks, from the root of the tree.

Needs nothing but the standard library of Python 3.9.
"""

from __future__ import annotations

import os
import sys

from benchmarks.environment import PrepareError, build


def main() -> None:
    """Turns into benchmarks/program.py, so that an interrupt reaches that and nothing else."""
    try:
        python = build("harness") / "bin" / "python"
    except PrepareError as error:
        sys.exit(str(error))
    os.execv(python, [str(python), "-m", "benchmarks.program", *sys.argv[1:]])


if __name__ == "__main__":
    main()
