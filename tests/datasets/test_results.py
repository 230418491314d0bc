"""Results read back: rows by id and by question, maps as they were, pictures drawn."""

from __future__ import annotations

import numpy as np
import pytest
from cli_models import jpeg_bytes, picture
from data_set_folders import write_pictures

from keras_gradcam import Explainer
from keras_gradcam.datasets import ExplainBatch, explain_dataset, local_run, open_results
from keras_gradcam.errors import ArgumentError


@pytest.fixture(scope="module")
def folder(model, pictures, tmp_path_factory):
    """Twenty rows in several files, with labels and regions; the eighth failed."""
    out = tmp_path_factory.mktemp("results")
    paths = [str(pictures / f"p{number:03d}.jpg") for number in range(20)]
    table = {"image": paths, "label": [number % 3 for number in range(20)], "region": [(5, 5, 30, 25)] * 20}
    explain_batch = ExplainBatch(model, methods=["gradcam", "saliency"], batch_size=4)
    before, local_run._MOST_ROWS = local_run._MOST_ROWS, 8
    try:
        with pytest.warns(UserWarning, match="could not be explained"):
            explain_dataset(table, explain_batch, out, class_names=["cat", "wild cat", "dog"], progress=False)
    finally:
        local_run._MOST_ROWS = before
    assert len(list(out.glob("*.parquet"))) == 3
    return out


@pytest.fixture
def results(folder):
    return open_results(folder)


def test_rows_are_listed_without_maps(results, pictures):
    assert len(results) == 20
    assert set(results.ids) == {str(pictures / f"p{number:03d}.jpg") for number in range(20)}
    table = results.table()
    assert "gradcam" not in table.column_names
    assert {"id", "label", "class", "score", "mass_inside", "failure"} <= {*table.column_names}
    assert results.failures == {str(pictures / "p007.jpg"): "is no picture that can be read"}
    assert results.class_names == {0: "cat", 1: "wild cat", 2: "dog"}
    assert "Results(20 rows" in repr(results)


def test_rows_by_id_keep_the_order_asked_for(results, pictures):
    wanted = [str(pictures / f"p{number:03d}.jpg") for number in (13, 2, 19)]
    assert results[wanted].ids == wanted
    assert results[wanted[1]].ids == wanted[1:2]
    assert results[wanted][1:].ids == wanted[1:]
    with pytest.raises(ArgumentError, match=r"`id` must name a row. Received: 'nowhere'"):
        results["nowhere"]


def test_questions_are_answered(results):
    frame = results.table().to_pandas().dropna(subset=["score"])
    expected = frame.sort_values("mass_inside", kind="stable")["id"].tolist()
    assert results.find("lowest mass inside").ids == expected
    assert results.find("lowest mass inside", 3).ids == expected[:3]
    wrong = frame[frame["label"] != frame["predicted"]].sort_values("confidence", ascending=False)
    assert results.find("wrong and confident").ids == wrong["id"].tolist()
    assert results.find("wrong and confident").find("unsure", 1).ids == wrong["id"].tolist()[-1:]
    assert results.sort("focus", descending=True, limit=2).ids == results.find("widest focus", 2).ids


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda results: results.sort("nothing"), "`column` must name a column of the results"),
        (lambda results: results.sort("id"), "`column` must hold numbers. Received: 'id'"),
        (lambda results: results.find("unsure", 0), "`limit` must be a whole number >= 1"),
        (lambda results: results.table(["x"]), "`columns` must name columns"),
        (lambda results: results[:0].explanation(), "`results` must hold rows that were explained. Received: none"),
        (lambda results: results.explanation(), "1 of 20 that failed"),
    ],
)
def test_what_cannot_be_answered(results, ask, message):
    with pytest.raises(ArgumentError, match=message):
        ask(results)


def test_explanations_have_the_maps_that_an_explainer_gives(results, model):
    chosen = results.find("highest score", 5)
    explanation = chosen.explanation()
    expected = Explainer(model, methods=["gradcam", "saliency"])(explanation.images.astype("float32"))
    np.testing.assert_allclose(explanation.scores, expected.scores, rtol=1e-5)
    np.testing.assert_array_equal(explanation.classes, expected.classes)
    for name in ("gradcam", "saliency"):
        largest = expected.maps[name].max()
        np.testing.assert_allclose(explanation.maps[name], expected.maps[name], atol=1e-3 * largest)
    assert explanation.layer == "last"
    assert explanation.heatmap.shape == (5, 16, 12)
    assert chosen.explanation(pictures=False).images is None


def test_pictures_are_drawn_with_what_the_model_says(results):
    chosen = results.find("wrong and confident", 4)
    drawn = chosen.overlays()
    assert [array.shape for array in drawn] == [(30, 40, 3)] * 4
    frames = chosen._frames()
    assert all(frame.wrong for frame in frames)
    assert frames[0].short[0].startswith("p0")
    assert any("cat" in line or "dog" in line for line in frames[0].short)
    assert frames[0].short[-1].startswith("score ")
    assert chosen.sheet("wrong").shape[2] == 3


def test_rows_that_are_no_files_need_pictures(model, tmp_path):
    explain_dataset(
        [{"image": [jpeg_bytes(0), jpeg_bytes(1)], "id": ["a", "b"]}],
        ExplainBatch(model, batch_size=2),
        tmp_path,
        progress=False,
    )
    with pytest.raises(
        ArgumentError, match=r"`pictures` must give the picture of every row. Received: 'a', which cannot"
    ):
        open_results(tmp_path).sheet()
    by_name = {"a": jpeg_bytes(0), "b": picture(1)}
    for pictures in (by_name, by_name.__getitem__):
        assert open_results(tmp_path, pictures).explanation().images.shape == (2, 16, 12, 3)
    with pytest.raises(ArgumentError, match="Received: 'b'"):
        open_results(tmp_path, {"a": jpeg_bytes(0)}).overlays()


def test_a_picture_that_is_gone_is_named(model, tmp_path):
    pictures = write_pictures(tmp_path / "in", 2)
    explain_dataset(str(pictures), ExplainBatch(model, batch_size=2), tmp_path / "out", progress=False)
    (pictures / "p001.jpg").unlink()
    results = open_results(tmp_path / "out")
    assert len(results) == 2
    with pytest.raises(ArgumentError, match=r"p001\.jpg', which cannot be read: No such file"):
        results.sheet()


def test_pictures_that_were_moved_are_found_by_the_end_of_their_path(model, tmp_path):
    pictures = write_pictures(tmp_path / "in", 3)
    explain_dataset(str(pictures), ExplainBatch(model, batch_size=2), tmp_path / "out", progress=False)
    expected = open_results(tmp_path / "out").sheet()
    pictures.rename(tmp_path / "moved")
    for folder in (tmp_path / "moved", str(tmp_path / "moved")):
        np.testing.assert_array_equal(open_results(tmp_path / "out", folder).sheet(), expected)
    with pytest.raises(ArgumentError, match="not in"):
        open_results(tmp_path / "out", tmp_path / "out").sheet()


@pytest.mark.parametrize("maps", [[[0.5]] * 2, [[1.0] * 25] * 2, [["x"] * 24] * 2, [None] * 2])
def test_maps_that_somebody_changed_are_refused(model, tmp_path, maps):
    import pyarrow
    import pyarrow.parquet

    pictures = write_pictures(tmp_path / "in", 2)
    explain_dataset(str(pictures), ExplainBatch(model, batch_size=2), tmp_path / "out", progress=False)
    (path,) = (tmp_path / "out").glob("*.parquet")
    table = pyarrow.parquet.read_table(path)
    index = table.column_names.index("gradcam")
    kind = pyarrow.list_(pyarrow.float32()) if maps[0] is None else None
    pyarrow.parquet.write_table(table.set_column(index, "gradcam", pyarrow.array(maps, kind)), path)
    with pytest.raises(ArgumentError, match=r"`path` must hold maps of shape \(6, 4\)"):
        open_results(tmp_path / "out").sheet()


def test_no_rows_at_all(model, tmp_path):
    explain_dataset({"image": np.zeros((0, 16, 12, 3), np.uint8)}, ExplainBatch(model), tmp_path, progress=False)
    results = open_results(tmp_path)
    assert len(results) == 0
    assert results.ids == []
