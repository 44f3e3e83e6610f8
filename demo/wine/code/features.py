# SPDX-License-Identifier: Apache-2.0
"""What the wine's model is given. The digits' model has a module of the same name, in a process of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sagemaker_inference_lite.errors import ClientError

MEASUREMENTS = 13


def table(wines: object) -> npt.NDArray[np.float64]:
    """Wines as rows of their 13 measurements: alcohol, malic acid, ash and so on.

    Raises:
        ClientError: They are something else. The caller is told what was expected.
    """
    try:
        rows = np.atleast_2d(np.asarray(wines, dtype=np.float64))
    except (TypeError, ValueError):
        raise ClientError(400, f"Expected rows of {MEASUREMENTS} numbers.") from None
    if rows.ndim != 2 or rows.shape[1] != MEASUREMENTS:
        raise ClientError(400, f"Expected rows of {MEASUREMENTS} numbers; these have the shape {rows.shape}.")
    return rows
