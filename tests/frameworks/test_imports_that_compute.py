# SPDX-License-Identifier: Apache-2.0
"""Handlers that compute with several native threads when they are imported, with libraries that people do it with."""

from __future__ import annotations

from pathlib import Path

import pytest
from running_server import serving

# Each makes and asks a model at the level of the module, and once more at each request.
AT_IMPORT = {
    "sklearn": """
from sklearn.ensemble import HistGradientBoostingClassifier
MODEL = HistGradientBoostingClassifier(max_iter=5).fit(ROWS, LABELS)
""",
    "lightgbm": """
import lightgbm
MODEL = lightgbm.LGBMClassifier(n_estimators=5, n_jobs=2, verbose=-1).fit(ROWS, LABELS)
""",
    "xgboost": """
import xgboost
MODEL = xgboost.XGBClassifier(n_estimators=5, n_jobs=2).fit(ROWS, LABELS)
""",
    "polars": """
import polars
class MODEL:
    @staticmethod
    def predict(rows):
        frame = polars.DataFrame(rows).lazy().group_by("column_0").agg(polars.all().sum()).collect()
        return frame.height * numpy.ones(len(rows))
""",
}

HANDLER = """
import numpy
ROWS = numpy.random.default_rng(0).random((4000, 10))
LABELS = (ROWS.sum(axis=1) > 5).astype(int)
{at_import}
EXPECTED = MODEL.predict(ROWS)

def handle(data, context):
    if data is None:
        return None
    return [str(bool((MODEL.predict(ROWS) == EXPECTED).all())) for _ in data]
"""


@pytest.mark.parametrize("library", AT_IMPORT)
def test_it_is_answered(tmp_path: Path, library: str) -> None:
    """Each worker imports the handler by itself, the log says why, and the answers are those of the import."""
    handler = tmp_path / f"computes_with_{library}.py"
    handler.write_text(HANDLER.format(at_import=AT_IMPORT[library]))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").touch()
    environ = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "10", "OMP_NUM_THREADS": "2"}
    with serving(tmp_path, str(handler), **environ) as server:
        answers = [server.invoke() for _ in range(6)]
        assert {(answer.status_code, answer.text) for answer in answers} == {(200, "True")}, server.output()
        assert "cannot be imported once for all workers" in server.output()
        assert "which a fork would lose" in server.output()
