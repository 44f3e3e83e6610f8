# SPDX-License-Identifier: Apache-2.0
"""What the codecs have to do with the libraries that they call: importing them late, and passing on what they say."""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable
from typing import Any

from sagemaker_inference_lite.content_types import MAX_QUOTED
from sagemaker_inference_lite.errors import ClientError

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def imported(name: str, refusal: Callable[[str], ClientError]) -> Any:
    """A module of an optional library that is installed, imported when the first body needs it.

    Args:
        name: Its name, such as "pyarrow.parquet".
        refusal: Makes the error for the caller where the module is installed and yet cannot be imported.

    Raises:
        ClientError: What refusal makes. The log has the cause, for it is the image that has to be mended.
    """
    try:
        return importlib.import_module(name)
    except MemoryError:
        raise
    # A binary part that does not fit what else is installed lets out ImportError, AttributeError and others.
    except Exception as error:
        logger.error("%s is installed but cannot be imported", name, exc_info=True)
        library = name.partition(".")[0]
        raise refusal(f"This server's {library}, which the type needs, cannot be imported.") from error


def reason_of(error: BaseException) -> str:
    """What an error of a library says, for a client: not more than is worth quoting, and no addresses in memory."""
    return _ADDRESS.sub("", str(error)).strip()[:MAX_QUOTED] or type(error).__name__
