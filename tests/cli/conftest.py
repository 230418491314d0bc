"""A model in a file with pictures, for every test of the command line."""

from __future__ import annotations

import shutil

import pytest
from cli_models import NAMES, network, png, saved


@pytest.fixture(scope="session")
def model():
    return network()


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    """A model file, a list of names and three pictures of different sizes; tests write elsewhere."""
    folder = tmp_path_factory.mktemp("cli")
    saved(model, folder / "model.keras")
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    for number, size in enumerate([(30, 40), (50, 20), (12, 12)]):
        png(folder / "pictures" / f"p{number}.png", number, size)
    return folder


@pytest.fixture(scope="session")
def five_pictures(model, tmp_path_factory):
    """A folder with a model and five pictures; tests write elsewhere."""
    folder = tmp_path_factory.mktemp("five")
    saved(model, folder / "model.keras")
    for number in range(5):
        png(folder / "pictures" / f"p{number}.png", number)
    return folder


@pytest.fixture
def workplace(folder, tmp_path, monkeypatch):
    """The current folder: a copy of the model, the names and two pictures, for tests that change them."""
    workplace = tmp_path / "work"
    workplace.mkdir()
    shutil.copy(folder / "model.keras", workplace)
    shutil.copy(folder / "names.txt", workplace)
    for number in range(2):
        png(workplace / "pictures" / f"p{number}.png", number)
    monkeypatch.chdir(workplace)
    return workplace
