"""Rows of explanations: equal to what an explainer gives, whatever batch they come in, in any process."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
from cli_models import SIZE, jpeg_bytes, network
from keras import layers as L  # noqa: N812
from PIL import Image

from keras_gradcam import Class, Explainer, Output, SelfSimilarity
from keras_gradcam.datasets import ExplainBatch
from keras_gradcam.datasets import batch as batch_module
from keras_gradcam.errors import ArgumentError
from keras_gradcam.metrics import center_of_mass, focus, mass, mass_inside

BOX = (4, 6, 30, 25)


@pytest.fixture(scope="module")
def batch():
    """Seven pictures as encoded bytes, the fourth broken."""
    images = [jpeg_bytes(number) for number in range(7)]
    images[3] = b"broken"
    return {
        "image": images,
        "id": [f"p{number}" for number in range(7)],
        "label": [0, 1, 2, 0, 1, 2, 0],
        "region": [BOX] * 7,
    }


@pytest.fixture(scope="module")
def good():
    return [0, 1, 2, 4, 5, 6]


def pixels(numbers):
    images = [Image.open(io.BytesIO(jpeg_bytes(number))) for number in numbers]
    resized = [np.asarray(image.resize(SIZE[::-1], Image.Resampling.BILINEAR)) for image in images]
    return np.stack(resized).astype(np.float32)


def test_rows_are_what_an_explainer_gives(model, batch, good):
    methods = ["gradcam", "guided_backprop"]
    rows = ExplainBatch(model, methods=methods, batch_size=4)(batch)
    expected = Explainer(model, methods=methods)(pixels(good))
    np.testing.assert_allclose(rows["score"][good], expected.scores, rtol=1e-5)
    np.testing.assert_array_equal(rows["class"][good], expected.classes)
    np.testing.assert_array_equal(rows["predicted"][good], expected.probabilities.argmax(axis=1))
    np.testing.assert_allclose(rows["confidence"][good], expected.probabilities.max(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(rows["probability"][good], rows["confidence"][good])
    for name in methods:
        maps = rows[name][good].astype(np.float64) * rows[f"{name}_max"][good].reshape(-1, *[1] * (rows[name].ndim - 1))
        largest = np.abs(expected.maps[name]).max()
        np.testing.assert_allclose(maps, expected.maps[name], atol=1e-3 * largest)
        assert rows[name].dtype == np.float16
    np.testing.assert_allclose(rows["focus"][good], focus(expected.gradcam), rtol=1e-5)
    np.testing.assert_allclose(rows["mass"][good], mass(expected.gradcam), rtol=1e-4)
    np.testing.assert_allclose(rows["center_y"][good], center_of_mass(expected.gradcam)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(rows["center_x"][good], center_of_mass(expected.gradcam)[:, 1], rtol=1e-5)
    box = np.array(BOX) * np.tile([SIZE[1] / 40, SIZE[0] / 30], 2)
    np.testing.assert_allclose(rows["mass_inside"][good], mass_inside(expected, [box] * 6).values, rtol=1e-4)
    assert rows["layer"].tolist() == ["last"] * 7
    assert rows["id"].tolist() == batch["id"]


def test_a_broken_picture_has_a_row_without_numbers(model, batch, good):
    rows = ExplainBatch(model, batch_size=4)(batch)
    assert rows["failure"][3] == "is no picture that can be read"
    assert (rows["failure"][good] == "").all()
    assert rows["class"][3] == rows["predicted"][3] == -1
    for name in (
        "score",
        "probability",
        "confidence",
        "gradcam",
        "gradcam_max",
        "focus",
        "mass",
        "center_x",
        "mass_inside",
    ):
        assert np.isnan(rows[name][3]).all(), name
        assert np.isfinite(rows[name][good]).all(), name


def test_a_row_does_not_depend_on_its_batch(model, batch):
    explain_batch = ExplainBatch(model, methods=["gradcam", "guided_gradcam"], batch_size=4)
    whole = explain_batch(batch)
    for start, stop in ((0, 1), (1, 7), (5, 7)):
        part = explain_batch({name: values[start:stop] for name, values in batch.items()})
        for name, values in part.items():
            np.testing.assert_array_equal(values, whole[name][start:stop], err_msg=name)


def test_it_survives_pickling(model_file, batch):
    explain_batch = ExplainBatch(model_file, batch_size=4)
    before = explain_batch(batch)
    assert explain_batch._session is not None
    copy = pickle.loads(pickle.dumps(explain_batch))
    assert copy._session is None, "the model is loaded anew where the copy is called"
    for name, values in copy(batch).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)


def test_copies_that_a_process_receives_load_the_model_once(model_file, batch, monkeypatch):
    loaded = []
    whole = batch_module.load_model
    monkeypatch.setattr(batch_module, "load_model", lambda model: loaded.append(model) or whole(model))
    sent = [pickle.dumps(ExplainBatch(model_file, batch_size=4)) for _ in range(4)]
    for _ in range(2):
        pickle.loads(sent[0])(batch)
    assert len(loaded) == 1
    for other in sent[1:]:
        pickle.loads(other)(batch)
    assert len(loaded) == 4
    assert len(batch_module._received) == 2
    pickle.loads(sent[0])(batch)
    assert len(loaded) == 5, "only the last ones are kept"


def test_another_process_gives_the_same_rows(model_file, tmp_path, batch):
    explain_batch = ExplainBatch(model_file, target=Class(2) - Class(0), preprocess="none", batch_size=4)
    expected = explain_batch(batch)
    (tmp_path / "sent").write_bytes(pickle.dumps((explain_batch, batch)))
    script = (
        "import pickle, sys\n"
        "explain_batch, batch = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "open(sys.argv[2], 'wb').write(pickle.dumps(explain_batch(batch)))\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "sent"), str(tmp_path / "back")]
    subprocess.run(words, check=True, timeout=300, capture_output=True)
    for name, values in pickle.loads((tmp_path / "back").read_bytes()).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_the_label_of_each_row_is_explained(model, batch, good):
    rows = ExplainBatch(model, target="label", batch_size=4)(batch)
    labels = np.array(batch["label"])[good]
    np.testing.assert_array_equal(rows["class"][good], labels)
    np.testing.assert_allclose(
        rows["score"][good], Explainer(model, target=labels, methods=["gradcam"])(pixels(good)).scores, rtol=1e-5
    )
    wrong = ExplainBatch(model, target="label", batch_size=4)({**batch, "label": [0, 1, 2, 0, 5, -1, 0]})
    assert "has the label" in wrong["failure"][4]
    assert "none of the model's classes 0 to 2" in wrong["failure"][5]
    assert wrong["class"][[4, 5]].tolist() == [-1, -1]
    with pytest.raises(ArgumentError, match="'label'"):
        ExplainBatch(model, target="label", batch_size=4)({"image": batch["image"]})


def test_a_target_that_is_no_class(model, batch, good):
    rows = ExplainBatch(model, target=Class(1) - Class(2), batch_size=4)(batch)
    assert (rows["class"] == -1).all()
    assert np.isnan(rows["probability"]).all()
    assert (rows["predicted"][good] >= 0).all()


def test_embeddings(batch, good):
    inputs = keras.Input((*SIZE, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(5, 3, activation="relu")(L.Rescaling(1 / 255)(inputs)))
    extractor = keras.Model(inputs, x)
    rows = ExplainBatch(extractor, target=SelfSimilarity(), embedding=True, batch_size=4)(batch)
    np.testing.assert_allclose(
        rows["embedding"][good], extractor.predict(pixels(good), verbose=0), rtol=1e-4, atol=1e-6
    )
    assert "class" not in rows
    assert np.isnan(rows["embedding"][3]).all()
    both = keras.Model(inputs, [L.Dense(3, activation="softmax", name="classes")(x), L.Identity(name="features")(x)])
    rows = ExplainBatch(both, target=Output("classes"), embedding="features", batch_size=4)(batch)
    assert rows["embedding"].shape == (7, 5)
    assert (rows["class"][good] >= 0).all()
    with pytest.raises(ArgumentError, match="classes"):
        ExplainBatch(both, target=Output("classes"), embedding="nothing", batch_size=4)(batch)


def test_maps_beyond_16_bits_keep_their_digits(rng):
    for scale in (1e-7, 1e7):
        model = network(activation="linear")
        kernel = model.layers[-1].kernel
        kernel.assign(kernel * scale)
        images = rng.integers(0, 256, (4, *SIZE, 3), np.uint8)
        rows = ExplainBatch(model, target=Class(1), batch_size=4)({"image": images})
        expected = Explainer(model, target=Class(1), methods=["gradcam"])(images.astype("float32")).gradcam
        maps = rows["gradcam"].astype(np.float64) * rows["gradcam_max"][:, None, None]
        np.testing.assert_allclose(maps, expected, rtol=2e-3, atol=1e-3 * max(expected.max(), 1e-30))


def test_answers_that_are_no_numbers_are_failures(rng):
    model = network(activation="linear")
    kernel = np.asarray(model.layers[-1].kernel).copy()
    kernel[0, 1] = np.nan
    model.layers[-1].kernel.assign(kernel)
    with pytest.warns(RuntimeWarning, match="not finite"):
        rows = ExplainBatch(model, target=Class(1), batch_size=2)(
            {"image": rng.integers(0, 256, (2, *SIZE, 3), np.uint8)}
        )
    assert rows["failure"].tolist() == ["the model's answer is not a finite number"] * 2


def test_a_function_makes_the_model_where_it_is_needed(batch):
    made = []

    def make():
        made.append(1)
        return network()

    explain_batch = ExplainBatch(make, batch_size=4)
    assert not made
    explain_batch(batch)
    explain_batch(batch)
    assert made == [1]


def test_the_model_is_unchanged(model, batch):
    before = [np.asarray(variable) for variable in model.variables], [layer.trainable for layer in model.layers]
    ExplainBatch(model, batch_size=4)(batch)
    for was, variable in zip(before[0], model.variables, strict=True):
        np.testing.assert_array_equal(was, np.asarray(variable))
    assert before[1] == [layer.trainable for layer in model.layers]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be a whole number >= 1"),
        ({"target": "cat"}, "`target` must be a target, or 'label'"),
        ({"embedding": 1.5}, "`embedding` must be True"),
        ({"columns": {"score": "x"}}, "by themselves"),
    ],
)
def test_wrong_options_are_refused_at_once(model_file, options, message):
    with pytest.raises(ArgumentError, match=message):
        ExplainBatch(model_file, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "conv9"}, "`layer` must"),
        ({"size": 64}, "`size` must be what the model takes"),
        ({"preprocess": "vgg"}, "`preprocess` must"),
        ({"value_range": "auto"}, "`value_range` must"),
        ({"embedding": "x"}, "'x'"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused_with_the_first_batch(model_file, options, message, batch):
    with pytest.raises(ArgumentError, match=message):
        ExplainBatch(model_file, **options)(batch)


def test_a_model_that_cannot_be_loaded(tmp_path, batch):
    with pytest.raises(ArgumentError, match=r"`model` must be a .keras or .h5 file that Keras can load"):
        ExplainBatch(str(tmp_path / "none.keras"))(batch)


def test_no_rows(model):
    rows = ExplainBatch(model, batch_size=2)({"image": np.zeros((0, *SIZE, 3), np.uint8)})
    assert all(len(values) == 0 for values in rows.values())


def test_what_it_is_shows(model_file, model):
    assert repr(ExplainBatch(model_file)).startswith(f"ExplainBatch({model_file!r}")
    assert model.name in repr(ExplainBatch(model))
