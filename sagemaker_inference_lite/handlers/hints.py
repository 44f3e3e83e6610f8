# SPDX-License-Identifier: Apache-2.0
"""What to do about errors that a model's load meets most, in words that follow the error's own."""

from __future__ import annotations

# Packages whose name is not that of the module that they bring: the ones that models import most.
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "imblearn": "imbalanced-learn",
    "jose": "python-jose",
    "jwt": "PyJWT",
    "magic": "python-magic",
    "sentence_transformers": "sentence-transformers",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "sklearnex": "scikit-learn-intelex",
    "umap": "umap-learn",
    "yaml": "PyYAML",
}


def how_to_add(module: str) -> str:
    """What to do about a module that is not installed, in one sentence."""
    top = module.partition(".")[0]
    if top in _DISTRIBUTIONS or top in _LIBRARIES:
        line = f"Add a line {_DISTRIBUTIONS.get(top, top)} to the model's code/requirements.txt"
    else:
        # A package that happens to have the name of a module of the author's own is a stranger's.
        line = (
            f"If {top} is a module of your own, put it beside inference.py in code/; if it is a package's, add that "
            "package to the model's code/requirements.txt"
        )
    return f"{line}, or install it into the image."


# Those that these files need, whose packages have their names.
_LIBRARIES = frozenset(("catboost", "joblib", "lightgbm", "onnxruntime", "pandas", "scipy", "torch", "xgboost"))


def hint_of(error: BaseException) -> str:
    """What to do about an error of a load, where that is known; "" where it is not."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return how_to_add(error.name)
    if isinstance(error, AttributeError) and "__main__" in str(error):
        return (
            "It was pickled by a script that defined this itself, and a pickle holds only its name: move it into a "
            "module, such as code/features.py, import it from there in the script, and write the file again."
        )
    return ""
