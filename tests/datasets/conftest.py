"""A model in a file and a folder of pictures that were not changed lately, for every test of data sets."""

from __future__ import annotations

import pytest
from cli_models import network, saved
from data_set_folders import write_pictures


@pytest.fixture(scope="session")
def model():
    return network()


@pytest.fixture(scope="session")
def model_file(model, tmp_path_factory):
    return saved(model, tmp_path_factory.mktemp("model") / "model.keras")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Twenty pictures, the eighth of them broken; tests write elsewhere."""
    return write_pictures(tmp_path_factory.mktemp("pictures"), 20, broken=(7,))
