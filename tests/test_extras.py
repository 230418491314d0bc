"""Packages that are not installed are named, with what to install."""

from __future__ import annotations

import sys

import pytest

from keras_gradcam.extras import import_faiss, import_pyarrow, import_ray, import_usearch

CASES = [
    (
        import_pyarrow,
        "pyarrow",
        "Parquet files need pyarrow, which is not installed: pip install 'keras_gradcam[parquet]'.",
    ),
    (import_ray, "ray", "engine='ray' needs ray, which is not installed: pip install 'keras_gradcam[ray]'."),
    (import_faiss, "faiss", "index='faiss' needs faiss, which is not installed: pip install 'keras_gradcam[index]'."),
    (
        import_usearch,
        "usearch.index",
        "index='usearch' needs usearch, which is not installed: pip install 'keras_gradcam[index]'.",
    ),
]


@pytest.mark.parametrize(("load", "name", "message"), CASES, ids=[name for _, name, _ in CASES])
def test_it_is_said_what_to_install(monkeypatch, load, name, message):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError) as error:
        load()
    assert str(error.value) == message


def test_what_is_installed_is_returned():
    assert import_pyarrow().parquet.ParquetFile
