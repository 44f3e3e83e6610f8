# SPDX-License-Identifier: Apache-2.0
"""From paths to models: what is one, what it is called, and what is said of what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagemaker_inference_lite.local.model_paths import Kind, ModelPathError, find_models, name_for

TREE = b"tree\nversion=v4\n"
LEARNER = b'{"learner": {}}'


def put(path: Path, content: bytes = b"x") -> Path:
    """A file, with its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def refusal(*paths: object, named: tuple[tuple[str, str], ...] = ()) -> str:
    """What is said of paths that are none."""
    with pytest.raises(ModelPathError) as caught:
        find_models([str(path) for path in paths], named)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.joblib", b"x"),
        ("m.onnx", b"x"),
        ("m.pt", b"x"),
        ("m.ubj", b"x"),
        ("m.json", LEARNER),
        ("m.txt", TREE),
        ("m.cbm", b"x"),
    ],
)
def test_files_are_models_by_name_and_content(tmp_path: Path, name: str, content: bytes) -> None:
    """A model's file is one model, called as the file is, less its suffix."""
    path = put(tmp_path / name, content)
    found = find_models([str(path)])
    assert not found.several
    assert found.models == (("m", Kind.FILE, path),)


def test_directories_and_archives_are_models(tmp_path: Path) -> None:
    """So are a directory with code, one with a program at its top, one with a model's file, and an archive."""
    put(tmp_path / "coded/code/inference.py")
    put(tmp_path / "topped/inference.py")
    put(tmp_path / "filed/model.joblib")
    archive = put(tmp_path / "packed.tar.gz")
    names = ("coded", "topped", "filed")
    found = find_models([*(str(tmp_path / name) for name in names), str(archive)])
    assert found.several
    assert [(model.name, model.kind) for model in found.models] == [
        *((name, Kind.DIRECTORY) for name in names),
        ("packed", Kind.ARCHIVE),
    ]


def test_a_directory_of_several(tmp_path: Path) -> None:
    """A directory that is no model itself stands for those in it, by their names; the rest is passed by."""
    put(tmp_path / "b.joblib")
    put(tmp_path / "a/code/inference.py")
    put(tmp_path / "c.tar.gz")
    put(tmp_path / "notes.md")
    put(tmp_path / ".hidden.joblib")
    found = find_models([str(tmp_path)])
    assert found.several
    assert [model.name for model in found.models] == ["a", "b", "c"]


def test_the_directory_s_own_model_file_comes_first(tmp_path: Path) -> None:
    """A directory with a model.joblib is one model, whatever else lies beside it, as the default handler has it."""
    put(tmp_path / "m/model.joblib")
    put(tmp_path / "m/scaler.joblib")
    (model,) = find_models([str(tmp_path / "m")]).models
    assert (model.name, model.kind) == ("m", Kind.DIRECTORY)


def test_a_name_makes_several(tmp_path: Path) -> None:
    """A model that was given a name is asked by it, even where it is the only one."""
    path = put(tmp_path / "model.joblib")
    found = find_models([], [("churn", str(path))])
    assert found.several
    assert found.models == (("churn", Kind.FILE, path),)


def test_any_directory_may_be_meant_for_a_handler(tmp_path: Path) -> None:
    """With a handler of the user's own a directory of anything is a model too, but not an empty one."""
    put(tmp_path / "m/weights.bin")
    (model,) = find_models([str(tmp_path / "m")], has_handler=True).models
    assert model.kind is Kind.DIRECTORY
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelPathError, match="it holds nothing"):
        find_models([str(tmp_path / "empty")], has_handler=True)


def test_the_working_directory_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.` is called as the directory is, and paths are taken from the working directory."""
    put(tmp_path / "churn/model.joblib")
    monkeypatch.chdir(tmp_path / "churn")
    assert find_models(["."]).models == (("churn", Kind.DIRECTORY, tmp_path / "churn"),)
    assert find_models(["model.joblib"]).models[0].path == tmp_path / "churn/model.joblib"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("churn model (2).joblib", "churn-model-2"),
        ("50%?.onnx", "50"),
        ("été.joblib", "été"),
        ("v1.2.tar.gz", "v1.2"),
        ("??.joblib", "model"),
        ("A.JOBLIB", "A"),
    ],
)
def test_names_can_be_typed(tmp_path: Path, file: str, name: str) -> None:
    """What the front end refuses, a shell takes apart or a URL escapes is not in a name that was made up."""
    assert name_for(put(tmp_path / file)) == name


def test_what_is_no_model(tmp_path: Path) -> None:
    """Each path that cannot be served is refused with what it is and what was expected."""
    assert "Nothing to serve was named" in refusal()
    assert refusal(tmp_path / "absent/x.joblib").endswith(f"Nor does the directory {tmp_path / 'absent'}.")
    put(tmp_path / "model.joblib")
    assert refusal(tmp_path / "modle.joblib").endswith(f"Did you mean {tmp_path / 'model.joblib'}?")
    link = tmp_path / "link.joblib"
    link.symlink_to("gone")
    assert refusal(link) == f"{link} is a link to gone, which does not exist."
    assert "joblib.dump(model, 'model.joblib')" in refusal(put(tmp_path / "m.pkl"))
    assert "is not a model, although its name ends in .json" in refusal(put(tmp_path / "m.json", b"{}"))
    assert "is not a model that is known by its name" in refusal(put(tmp_path / "m.md"))
    directory = put(tmp_path / "texts/a.md").parent
    assert "is a directory without a model; it holds a.md. Expected a model's file" in refusal(directory)


def test_no_two_models_have_one_name(tmp_path: Path) -> None:
    """Two of one name are refused, with an option that can be copied."""
    one, other = put(tmp_path / "churn/model.joblib"), put(tmp_path / "fraud case/model.joblib")
    assert refusal(one, other) == (
        f"Two models have the name model: {one} and {other}. Name one: --model 'fraud-case={other}'"
    )


@pytest.mark.parametrize("name", ["a/b", "..", " a", "a%", "x" * 257, "a\n"])
def test_names_that_cannot_be_asked_for(tmp_path: Path, name: str) -> None:
    """A name that the front end would refuse is refused before anything is started."""
    path = str(put(tmp_path / "m.joblib"))
    assert "cannot be a model's name" in refusal(named=((name, path),))
