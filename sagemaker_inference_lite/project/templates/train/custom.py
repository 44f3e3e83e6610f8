"""Makes a small model, so that everything here can be tried. Put your own training in its place."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris, load_wine


def train(features, kinds, file):
    """Writes an array, which code/inference.py loads: the centre of each kind."""
    np.save(file, [features[kinds == kind].mean(axis=0) for kind in np.unique(kinds)])
