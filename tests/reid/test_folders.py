"""Queries and galleries in folders, of pictures or of rows, are ranked as arrays are."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from cli_models import SIZE, jpeg_bytes
from keras import layers as L  # noqa: N812
from models import randomised

from keras_gradcam import Explainer, SelfSimilarity
from keras_gradcam.errors import ArgumentError
from keras_gradcam.pictures.reading import read_picture
from keras_gradcam.pictures.spec import picture_spec
from keras_gradcam.reid import PictureFolder, rank, read_folder
from keras_gradcam.reid.folders import labelled_pictures

NAMES = ["0001_c1_a.jpg", "0001_c2_b.jpg", "0002_c1_c.jpg", "0002_c3_d.jpg", "0003_c1_e.jpg", "-1_c1_f.jpg"]


@pytest.fixture(scope="module")
def embedder():
    layers = [L.Rescaling(1 / 255), L.Conv2D(6, 3, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(5)]
    return randomised(keras.Sequential([keras.Input((*SIZE, 3)), *layers]))


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(jpeg_bytes(number))
    return folder


def arrays(folder, embedder):
    spec = picture_spec(embedder)
    names = sorted(NAMES)
    images = np.stack([read_picture(str(folder / name), spec).pixels for name in names]).astype(np.float32)
    identities = [int(name.split("_")[0]) for name in names]
    return images, identities, [int(name.split("_c")[1][0]) for name in names]


def same(first, second):
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_allclose(first.similarities, second.similarities, rtol=1e-5)
    np.testing.assert_array_equal(first.average_precision, second.average_precision)


@pytest.mark.filterwarnings("ignore:.*have no right match")
def test_folders_are_ranked_as_arrays(people, embedder):
    given = arrays(people, embedder)
    expected = rank(given, given, embedder, progress=False, explain=2)
    found = rank(str(people), people, embedder, progress=False, explain=2)
    same(found, expected)
    np.testing.assert_array_equal(found.explained[1].pictures, expected.explained[1].pictures)
    other = rank(str(people), arrays(people, embedder), Explainer(embedder), progress=False)
    assert (other.indices[:, 0] >= 0).any()


@pytest.mark.filterwarnings("ignore:.*have no right match")
def test_rows_are_ranked_as_their_pictures(people, embedder, tmp_path):
    from keras_gradcam.datasets import ExplainBatch, explain_dataset

    explain_batch = ExplainBatch(embedder, target=SelfSimilarity(), embedding=True, batch_size=4)
    explain_dataset(str(people), explain_batch, tmp_path / "names", progress=False)
    embeddings, identities, cameras = read_folder(tmp_path / "names")
    assert embeddings.dtype == np.float32
    paths, expected_identities, expected_cameras = labelled_pictures(
        "folder", people, r"(?P<id>-?\d+)_c(?P<camera>\d+)"
    )
    assert len(paths) == len(embeddings)
    assert sorted(zip(identities, cameras, strict=True)) == sorted(
        zip(expected_identities, expected_cameras, strict=True)
    )
    found, expected = rank(tmp_path / "names", tmp_path / "names"), rank(people, people, embedder, progress=False)
    assert found.mean_ap == pytest.approx(expected.mean_ap)
    np.testing.assert_allclose(found.cmc, expected.cmc)


def test_identities_and_cameras_of_a_table_go_along(people, embedder, tmp_path):
    from keras_gradcam.datasets import ExplainBatch, explain_dataset

    table = {"image": [str(people / name) for name in NAMES], "label": [5, 5, 6, 6, 7, 7], "camera": [1, 2, 1, 2, 1, 2]}
    columns = {"image": "image", "id": "image", "label": "label", "camera": "camera"}
    explain_batch = ExplainBatch(embedder, target=SelfSimilarity(), embedding=True, columns=columns, batch_size=4)
    explain_dataset(table, explain_batch, tmp_path, progress=False)
    _, identities, cameras = read_folder(tmp_path)
    assert (identities.tolist(), cameras.tolist()) == ([5, 5, 6, 6, 7, 7], [1, 2, 1, 2, 1, 2])


def test_a_folder_is_read_as_often_as_needed(people, embedder):
    folder = read_folder(people, embedder, preprocess="none")
    assert isinstance(folder, PictureFolder)
    first, second = list(folder), list(folder)
    assert len(first) == 1
    for one, other in zip(first[0], second[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_pictures_that_cannot_be_read_are_left_out_and_named_once(people, embedder, tmp_path):
    for name in NAMES:
        (tmp_path / name).write_bytes((people / name).read_bytes())
    (tmp_path / NAMES[1]).write_bytes(b"broken")
    folder = read_folder(tmp_path, embedder)
    with pytest.warns(UserWarning, match=f"{NAMES[1]}' is no picture that can be read, and is left out"):
        (batch,) = folder
    assert len(batch[0]) == len(batch[1]) == 5
    (again,) = folder
    assert len(again[0]) == 5
    assert len(folder.paths) == 5
    assert list(folder.failures) == [str(tmp_path / NAMES[1])]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "("}, "`pattern` must be a regular expression"),
        ({"pattern": r"(\d+)"}, "`pattern` must have a group 'id'"),
        ({"pattern": r"(?P<id>c)"}, "`pattern` must find numbers"),
        ({"pattern": r"x(?P<id>\d)"}, "`folder` must hold pictures whose names tell an identity"),
        ({"pattern": 3}, "`pattern` must be a regular expression"),
        ({"size": 999}, "`size` must be"),
        ({"preprocess": "x"}, "`preprocess` must be"),
    ],
)
def test_wrong_options(people, embedder, options, message):
    with pytest.raises(ArgumentError, match=message):
        read_folder(people, embedder, **options)


def test_folders_that_hold_nothing(tmp_path, embedder, people):
    with pytest.raises(ArgumentError, match="`folder` must hold pictures"):
        read_folder(tmp_path, embedder)
    with pytest.raises(ArgumentError, match="`folder` must be a folder"):
        read_folder(tmp_path / "nowhere", embedder)
    with pytest.raises(ArgumentError, match="`model` must be given"):
        read_folder(people)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        ([[1.0, 2.0], [1.0]], "hold embeddings of one length"),
        ([["a"], ["b"]], "hold embeddings of one length"),
        ([None, None], "where every picture failed"),
    ],
)
def test_rows_that_are_no_embeddings_are_refused(tmp_path, embeddings, message):
    import pyarrow
    import pyarrow.parquet

    kind = pyarrow.list_(pyarrow.float32()) if embeddings[0] is None else None
    table = pyarrow.table({"id": ["0001_c1.jpg", "0002_c1.jpg"], "embedding": pyarrow.array(embeddings, kind)})
    pyarrow.parquet.write_table(table, tmp_path / "part-1.parquet")
    with pytest.raises(ArgumentError, match=message):
        read_folder(tmp_path)


def test_a_damaged_file_of_rows_is_refused(tmp_path):
    (tmp_path / "part-1.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArgumentError, match="hold rows that can be read"):
        read_folder(tmp_path)


def test_rows_without_embeddings_are_refused(people, embedder, tmp_path):
    from keras_gradcam.datasets import ExplainBatch, explain_dataset

    explain_dataset(str(people), ExplainBatch(embedder, target=SelfSimilarity()), tmp_path, progress=False)
    with pytest.raises(ArgumentError, match="Candidates: embedding=True in explain_dataset"):
        read_folder(tmp_path)
