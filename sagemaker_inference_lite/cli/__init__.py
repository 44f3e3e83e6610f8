# SPDX-License-Identifier: Apache-2.0
"""The sagemaker-inference-lite command. With ``__main__`` the only place that prints.

`main` runs it. Each command is a module of this package whose ``command`` is click's; it is imported when it is asked
for, or listed, and imports what it needs when it runs. An error of this library's that a command raises ends in one
message on stderr and in the exit status that the error carries.
"""

from __future__ import annotations

from sagemaker_inference_lite.cli.program import main

__all__ = ["main"]
