# SPDX-License-Identifier: Apache-2.0
"""Boosters of xgboost, LightGBM and CatBoost in a model.joblib: asked in this process and on the real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import joblib
import numpy as np
import pytest
from asking import TYPES, ask
from running_server import Server

from sagemaker_inference_lite.errors import ClientError
from sagemaker_inference_lite.handlers import frameworks

ROUNDS = 5


@pytest.fixture(scope="module")
def rows(iris: Any) -> Any:
    """Rows of iris, some with a value that is missing."""
    rows = iris.data.copy()
    rows[::7, 2] = np.nan
    return rows


def xgboost_booster(rows: Any, labels: Any, **parameters: Any) -> Any:
    """A Booster whose features have names."""
    import xgboost

    names = ["sepal length", "sepal width", "petal length", "petal width"]
    matrix = xgboost.DMatrix(rows, label=labels, feature_names=names)
    return xgboost.train({"nthread": 1, **parameters}, matrix, ROUNDS)


def of_xgboost(booster: Any, rows: Any) -> Any:
    """What xgboost itself answers."""
    import xgboost

    matrix = xgboost.DMatrix(rows, feature_names=booster.feature_names, feature_types=booster.feature_types)
    return booster.predict(matrix)


def lightgbm_booster(rows: Any, labels: Any) -> Any:
    """A Booster of LightGBM's."""
    import lightgbm

    return lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(rows, label=labels), ROUNDS)


def catboost_model(rows: Any, labels: Any, **more: Any) -> Any:
    """A model of CatBoost's."""
    import catboost

    parameters = {"iterations": ROUNDS, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    return catboost.CatBoostRegressor(**parameters, **more).fit(rows, labels)


@pytest.mark.parametrize("kind", ["gbtree", "gblinear", "dart"])
def test_a_booster_of_xgboost_answers_as_its_library_does(rows: Any, iris: Any, kind: str) -> None:
    """Whatever its kind, with names of features and with values that are missing, as NaN or as null."""
    clean = iris.data if kind == "gblinear" else rows  # a linear one knows nothing missing
    booster = xgboost_booster(clean, iris.target, booster=kind)
    expected = of_xgboost(booster, clean)
    nulls = [[None if np.isnan(each) else each for each in row] for row in clean.tolist()]
    for data in (clean, clean.astype(np.float32), nulls):
        assert np.array_equal(frameworks.predict(data, booster), expected)  # type: ignore[arg-type] # an array


def test_categories_of_xgboost_are_numbers(iris: Any) -> None:
    """Categories come as their codes, where the booster was trained with them."""
    import xgboost

    codes = np.column_stack([np.arange(150) % 3, iris.data[:, 0]])
    options: dict[str, Any] = {"feature_types": ["c", "float"], "enable_categorical": True}
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(codes, label=iris.target, **options), ROUNDS)
    expected = booster.predict(xgboost.DMatrix(codes, **options))
    assert np.array_equal(frameworks.predict(codes, booster), expected)  # type: ignore[arg-type] # an array


def test_sparse_rows(rows: Any, iris: Any) -> None:
    """A sparse matrix reaches a booster as it is."""
    from scipy.sparse import csr_matrix

    booster = lightgbm_booster(iris.data, iris.target)
    expected = booster.predict(iris.data)
    assert np.allclose(frameworks.predict(csr_matrix(iris.data), booster), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [xgboost_booster, lightgbm_booster])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.ones((2, 3)), "rows of 4 numbers; the request's shape is [2, 3]"),
        ([1.0, 2.0, 3.0, 4.0], "rows of 4 numbers; the request's shape is [4]"),
        ([[1, 2, 3, "red"]], "takes numbers"),
        (np.array([["1", "2", "3", "4"]]), "takes numbers"),
        ({"a": 1}, "rows of 4 numbers; the request holds none"),
    ],
)
def test_what_a_booster_cannot_take_is_400(iris: Any, make: Callable[[Any, Any], Any], data: object, says: str) -> None:
    """Another number of columns, a row alone, text and objects are the client's mistake, and the answer says so."""
    with pytest.raises(ClientError) as caught:
        frameworks.predict(data, make(iris.data, iris.target))
    assert caught.value.status == 400
    assert says in str(caught.value)


def lightgbm_classifier(rows: Any, labels: Any) -> Any:
    """A model of LightGBM's with the methods of scikit-learn's."""
    import lightgbm

    return lightgbm.LGBMClassifier(n_estimators=ROUNDS, n_jobs=1, verbose=-1).fit(rows, labels)


def xgboost_regressor(rows: Any, labels: Any) -> Any:
    """A model of xgboost's with the methods of scikit-learn's."""
    import xgboost

    return xgboost.XGBRegressor(n_estimators=ROUNDS, n_jobs=1).fit(rows, labels)


@pytest.mark.parametrize("make", [xgboost_regressor, lightgbm_classifier, catboost_model])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([["red", 1, 2, 3]], "not all finite numbers"),
        ([[{"a": 1}, 1, 2, 3]], "not all finite numbers"),
        ([{"a": 1}], "takes rows of 4 numbers"),
        ({"a": 1}, "takes rows of"),
        ([[1, 2]], "the request's shape is [1, 2]"),
    ],
)
def test_what_a_model_with_predict_cannot_take_is_400(
    iris: Any, make: Callable[[Any, Any], Any], data: object, says: str
) -> None:
    """Text and objects among numbers are the client's mistake, whatever the library raises for them."""
    with pytest.raises(ClientError) as caught:
        frameworks.predict(data, make(iris.data, iris.target))
    assert caught.value.status == 400
    assert says in str(caught.value)


@pytest.mark.parametrize("make", [xgboost_booster, lightgbm_booster, xgboost_regressor, catboost_model])
@pytest.mark.parametrize("kind", [str, str.encode])
def test_a_text_never_names_a_file(
    tmp_path: Path, iris: Any, make: Callable[[Any, Any], Any], kind: Callable[[str], object]
) -> None:
    """These libraries read the file that a text names: no client may have them do it."""
    file = tmp_path / "secret.csv"
    np.savetxt(file, iris.data, delimiter=",")
    with pytest.raises(ClientError) as caught:
        frameworks.predict(kind(f"{file}?format=csv"), make(iris.data, iris.target))
    assert caught.value.status == 400


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("make", [xgboost_booster, lightgbm_booster, catboost_model, xgboost_regressor])
def test_model_joblib(
    server: Server, model_dir: Path, content_type: str, iris: Any, make: Callable[[Any, Any], Any]
) -> None:
    """Each is served from a model.joblib, in every type, and answers as its library does."""
    model = make(iris.data, iris.target)
    joblib.dump(model, model_dir / "model.joblib")
    assert server.load(model_dir.parent.name).status_code == 200, server.output()
    expected = of_xgboost(model, iris.data) if make is xgboost_booster else model.predict(iris.data)
    answer = ask(server, iris.data, content_type, model_dir.parent.name)
    assert np.allclose(answer.ravel(), expected, rtol=1e-6)


def test_categories_of_catboost_are_text(server: Server, model_dir: Path, iris: Any) -> None:
    """A model of CatBoost's with a feature that is text is asked in JSON and in CSV."""
    colours = np.array(["red", "green", "blue"])[iris.target]
    table = [[colour, *row] for colour, row in zip(colours.tolist(), iris.data.tolist())]
    model = catboost_model(table, iris.target, cat_features=[0])
    joblib.dump(model, model_dir / "model.joblib")
    assert server.load(model_dir.parent.name).status_code == 200, server.output()
    lines = "\n".join(",".join(map(str, row)) for row in table)
    for body, content_type in ((table, "application/json"), (lines, "text/csv")):
        answer = server.invoke(
            json.dumps(body) if isinstance(body, list) else body,
            model_dir.parent.name,
            headers={"Content-Type": content_type},
        )
        assert answer.status_code == 200, answer.text
        assert np.allclose(answer.json(), model.predict(table))
