# SPDX-License-Identifier: Apache-2.0
"""What the digits' model is given. The wine's model has a module of the same name, in a process of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sagemaker_inference_lite.errors import ClientError

PIXELS = 64
BRIGHTEST = 16


def table(images: object) -> npt.NDArray[np.float64]:
    """Images of 8x8 pixels, or of 64 in a row, as rows of numbers from 0 to 1.

    Raises:
        ClientError: They are something else. The caller is told what was expected.
    """
    try:
        return np.asarray(images, dtype=np.float64).reshape(-1, PIXELS) / BRIGHTEST
    except (TypeError, ValueError):
        raise ClientError(400, "Expected images of 8x8 numbers from 0 to 16, or of 64 numbers in a row.") from None
