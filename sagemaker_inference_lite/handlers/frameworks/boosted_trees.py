# SPDX-License-Identifier: Apache-2.0
"""Boosted trees: files and models of xgboost's, LightGBM's and CatBoost's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from sagemaker_inference_lite.errors import ClientError
from sagemaker_inference_lite.handlers.frameworks import scikit_learn
from sagemaker_inference_lite.handlers.frameworks.casting import Array, cast
from sagemaker_inference_lite.handlers.frameworks.libraries import Resources, library


def load_xgboost(path: Path, resources: Resources) -> object:
    """A Booster of what xgboost's save_model wrote."""
    booster = library("xgboost", path).Booster()
    booster.load_model(str(path))
    if resources.threads:
        booster.set_param({"nthread": resources.threads})
    return booster


def load_lightgbm(path: Path, resources: Resources) -> object:
    """A Booster of what LightGBM's save_model wrote."""
    parameters = {"num_threads": resources.threads} if resources.threads else {}
    return library("lightgbm", path).Booster(params=parameters, model_file=str(path))


def load_catboost(path: Path, resources: Resources) -> object:
    """What CatBoost's save_model wrote: a classifier, which answers with classes, or any other model."""
    catboost = library("catboost", path)
    model = catboost.CatBoost().load_model(str(path))
    return catboost.CatBoostClassifier().load_model(str(path)) if len(model.classes_) else model


def run_xgboost(booster: Any, data: object) -> object:
    """Asks a Booster of xgboost's."""
    types = booster.feature_types
    matrix = sys.modules["xgboost"].DMatrix(
        _rows(data, booster.num_features()),
        feature_names=booster.feature_names,
        feature_types=types,
        enable_categorical="c" in (types or ()),
    )
    return booster.predict(matrix)


def run_lightgbm(booster: Any, data: object) -> object:
    """Asks a Booster of LightGBM's."""
    return booster.predict(_rows(data, booster.num_feature()))


def _rows(data: Any, features: int) -> object:
    """The rows of a request as float64, or as the sparse matrix that they are."""
    rows = data if hasattr(data, "tocsr") else _dense(data, features)
    if rows.ndim != 2 or rows.shape[1] != features:
        shape = list(rows.shape)
        raise ClientError(400, f"The model takes rows of {features} numbers; the request's shape is {shape}.")
    return rows


def _dense(data: object, features: int) -> Array:
    if not isinstance(data, (np.ndarray, list)):
        raise ClientError(400, f"The model takes rows of {features} numbers; the request holds none.")
    return cast(data, np.dtype(np.float64), "The model")


def run_on_rows(model: Any, data: object) -> object:
    """Asks a model whose own predict() takes a text for the name of a file, and tries what it can with an object."""
    if isinstance(data, (str, bytes, dict)):
        kind = "an object" if isinstance(data, dict) else "text"
        raise ClientError(400, f"The model takes rows of numbers; the request is {kind}: send [[...]].")
    catboost = sys.modules.get("catboost")
    return scikit_learn.run(model, data, (catboost.CatBoostError,) if catboost else ())
