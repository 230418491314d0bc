"""`keras-gradcam explain`: what comes out is what an Explainer says of the same pictures."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from cli_models import NAMES, SIZE, contents, manifest, network, picture, png, run, saved, taken
from PIL import Image

import keras_gradcam
from keras_gradcam import Class, Explainer
from keras_gradcam.attribution.methods.names import CAMS, METHODS
from keras_gradcam.drawing.panels import Frame, panel
from keras_gradcam.drawing.pixels import overlay


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A model file, a list of names and three pictures of different sizes."""
    folder = tmp_path_factory.mktemp("cli")
    saved(model, folder / "model.keras")
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    for number, size in enumerate([(30, 40), (50, 20), (12, 12)]):
        png(folder / "pictures" / f"p{number}.png", number, size)
    return folder


def explain(folder, out, *words):
    return run("explain", folder / "model.keras", folder / "pictures", "--out", out, "--quiet", *words)


def images(folder):
    return np.concatenate([taken(folder / "pictures" / f"p{number}.png") for number in range(3)])


def stored(out, number):
    with np.load(out / f"p{number}.npz") as file:
        return dict(file)


def test_raw_arrays_are_those_of_an_explainer(model, folder, tmp_path):
    assert explain(folder, tmp_path, "--format", "npz", "--method", ",".join(METHODS)) == 0
    expected = Explainer(model, methods=METHODS)(images(folder))
    for number in range(3):
        found = stored(tmp_path, number)
        for name in METHODS:
            np.testing.assert_array_equal(found[name], expected.maps[name][number][None], name)
        np.testing.assert_array_equal(found["scores"], expected.scores[number : number + 1])
        assert found["classes"].tolist() == [expected.classes[number]]
        order = np.argsort(-expected.predictions[number])
        assert found["top_classes"].tolist() == order.tolist()
        np.testing.assert_allclose(found["top_probabilities"], expected.predictions[number][order], rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "target"),
    [
        (["--class", "2"], Class(2)),
        (["--class", "DOG", "--labels"], Class(2)),
        (["--class", "wild", "--labels"], Class(1)),
        (["--class", "2", "--contrast", "0"], Class(2) - Class(0)),
        (["--contrast", "1"], Class() - Class(1)),
        (["--counterfactual"], -Class()),
        (["--class", "cat", "--counterfactual", "--labels"], -Class(0)),
    ],
)
def test_questions(model, folder, tmp_path, words, target):
    words = [*words, folder / "names.txt"] if words[-1] == "--labels" else words
    assert explain(folder, tmp_path, "--format", "npz", "--method", "gradcam", *words) == 0
    expected = Explainer(model, methods="gradcam")(images(folder), target=target)
    for number in range(3):
        found = stored(tmp_path, number)
        np.testing.assert_array_equal(found["gradcam"][0], expected.gradcam[number])
        np.testing.assert_array_equal(found["scores"], expected.scores[number : number + 1])


def test_the_likeliest_classes_each_get_a_map(model, folder, tmp_path):
    assert explain(folder, tmp_path, "--format", "npz", "--class", "top2", "--method", "gradcam") == 0
    explainer = Explainer(model, methods="gradcam")
    order = np.argsort(-explainer.predict(images(folder)), axis=1)[:, :2]
    for place in range(2):
        expected = explainer(images(folder), target=order[:, place])
        for number in range(3):
            found = stored(tmp_path, number)
            assert found["classes"].tolist() == order[number].tolist()
            np.testing.assert_allclose(found["gradcam"][place], expected.gradcam[number], rtol=1e-4, atol=1e-6)


def test_the_likeliest_classes_can_be_contrasted(model, folder, tmp_path):
    assert (
        explain(folder, tmp_path, "--format", "npz", "--class", "top2", "--counterfactual", "--method", "gradcam") == 0
    )
    explainer = Explainer(model, methods="gradcam")
    order = np.argsort(-explainer.predict(images(folder)), axis=1)[:, 1]
    expected = explainer(images(folder), target=-Class(order))
    for number in range(3):
        found = stored(tmp_path, number)
        assert found["classes"][1] == order[number]
        np.testing.assert_allclose(found["gradcam"][1], expected.gradcam[number], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("how", "prepared"),
    [
        ("1/255,0", lambda x: x / 255),
        ("2,-3.5", lambda x: 2 * x - 3.5),
        ("mobilenet_v2", lambda x: x / 127.5 - 1),
        ("none", lambda x: x),
        ("resnet50", lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68])),
    ],
)
def test_preparation(model, folder, tmp_path, how, prepared):
    assert explain(folder, tmp_path, "--format", "npz", "--method", "gradcam", "--preprocess", how) == 0
    expected = Explainer(model, methods="gradcam")(prepared(images(folder)).astype("float32"))
    for number in range(3):
        np.testing.assert_allclose(stored(tmp_path, number)["scores"], expected.scores[number : number + 1], rtol=1e-5)


def test_panels_are_those_of_the_callback(model, folder, tmp_path):
    assert explain(folder, tmp_path, "--labels", folder / "names.txt", "--method", "gradcam,guided_gradcam") == 0
    explanation = Explainer(model, methods=["gradcam", "guided_gradcam"])(images(folder))
    shares = explanation.predictions
    for number in range(3):
        name = NAMES[explanation.classes[number]]
        frame = Frame(
            picture=np.asarray(Image.open(folder / "pictures" / f"p{number}.png")),
            gradcam=explanation.gradcam[number],
            gradients={"guided Grad-CAM": explanation.guided_gradcam[number]},
            vmax=float(explanation.gradcam[number].max()),
            caption=(
                f"predicted: {name} {shares[number].max():.2f}",
                f"score {explanation.scores[number]:.3g}",
                f"top {explanation.gradcam[number].max():.3g}",
            ),
        )
        drawn = np.asarray(Image.open(tmp_path / f"p{number}.png"))
        np.testing.assert_array_equal(drawn, panel(frame))


def test_each_of_several_classes_has_a_row(folder, tmp_path):
    assert explain(folder, tmp_path / "one") == 0
    assert explain(folder, tmp_path / "three", "--class", "top3") == 0
    one, three = (np.asarray(Image.open(tmp_path / name / "p1.png")) for name in ("one", "three"))
    assert len(three) >= 3 * len(one)
    rows = len(three) // 3
    # The picture is at the head of each row.
    for row in (1, 2):
        np.testing.assert_array_equal(three[:60, :60], three[row * rows : row * rows + 60, :60])


def test_separate_maps_have_the_size_of_the_picture(model, folder, tmp_path):
    assert explain(folder, tmp_path, "--format", "separate", "--method", "layercam", "--method", "saliency") == 0
    explanation = Explainer(model, methods=["layercam"])(images(folder))
    files = {path.name for path in tmp_path.iterdir()}
    names = {f"p{number}.{method}.png" for number in range(3) for method in ("layercam", "saliency")}
    assert files == {*names, "manifest.json"}
    for number, size in enumerate([(30, 40), (50, 20), (12, 12)]):
        given = np.asarray(Image.open(folder / "pictures" / f"p{number}.png"))
        drawn = np.asarray(Image.open(tmp_path / f"p{number}.layercam.png"))
        assert given.shape[:2] == drawn.shape[:2] == size
        np.testing.assert_array_equal(drawn, overlay(given, explanation.maps["layercam"][number]))
        assert np.asarray(Image.open(tmp_path / f"p{number}.saliency.png")).shape[:2] == size


def test_a_large_picture_is_drawn_at_2048_pixels(folder, tmp_path):
    png(tmp_path / "large.png", 1, (1000, 3000))
    words = "--format", "separate", "--method", "gradcam", "--class", "top2", "--out", tmp_path / "out"
    assert run("explain", folder / "model.keras", tmp_path / "large.png", *words) == 0
    for place in (1, 2):
        with Image.open(tmp_path / "out" / f"large.top{place}.gradcam.png") as drawn:
            assert drawn.size == (2048, 683)


def test_the_manifest_says_what_was_done(model, folder, tmp_path):
    words = "--labels", folder / "names.txt", "--class", "dog", "--layer", "first", "--method", "gradcam,hirescam"
    assert explain(folder, tmp_path, *words) == 0
    written = manifest(tmp_path)
    file = (folder / "model.keras").read_bytes()
    assert written["model"] == {
        "source": str(folder / "model.keras"),
        "sha256": hashlib.sha256(file).hexdigest(),
    }
    assert written["made_with"]["keras_gradcam"] == keras_gradcam.__version__
    assert set(written["made_with"]) == {"keras_gradcam", "keras", "tensorflow"}
    settings = written["settings"]
    assert (settings["class"], settings["layer"], settings["methods"]) == (2, "first", ["gradcam", "hirescam"])
    assert written["failures"] == []
    expected = Explainer(model, layer="first")(images(folder), target=2)
    for number, entry in enumerate(written["pictures"]):
        given = folder / "pictures" / f"p{number}.png"
        shares = expected.predictions[number]
        assert entry["path"] == str(given)
        assert entry["sha256"] == hashlib.sha256(given.read_bytes()).hexdigest()
        assert entry["predicted"]["class"] == shares.argmax()
        assert entry["predicted"]["name"] == NAMES[shares.argmax()]
        assert entry["predicted"]["probability"] == pytest.approx(shares.max(), rel=1e-5)
        (explained,) = entry["explained"]
        assert (explained["class"], explained["name"]) == (2, "dog")
        assert explained["probability"] == pytest.approx(shares[2], rel=1e-5)
        assert explained["score"] == pytest.approx(expected.scores[number], rel=1e-5)
        assert (entry["layer"], entry["files"]) == ("first", [f"p{number}.png"])
    assert [entry["size"] for entry in written["pictures"]] == [[30, 40], [50, 20], [12, 12]]


def test_one_unit_is_two_classes(tmp_path):
    model = network(classes=1, activation="sigmoid")
    png(tmp_path / "a.png")
    words = "--format", "npz", "--method", "gradcam", "--class", "top2", "--out", tmp_path / "out"
    assert run("explain", saved(model, tmp_path / "m.keras"), tmp_path / "a.png", *words) == 0
    with np.load(tmp_path / "out" / "a.npz") as found:
        assert sorted(found["classes"].tolist()) == [0, 1]
        assert found["scores"][0] == pytest.approx(-found["scores"][1], rel=1e-5)
        assert found["top_probabilities"].sum() == pytest.approx(1, rel=1e-5)


def test_a_grey_model_takes_grey_pictures(tmp_path):
    model = network(channels=1)
    given = png(tmp_path / "a.png")
    words = "--format", "npz", "--method", "gradcam,guided_backprop", "--out", tmp_path / "out"
    assert run("explain", saved(model, tmp_path / "m.keras"), given, *words) == 0
    expected = Explainer(model)(taken(given, mode="L"))
    with np.load(tmp_path / "out" / "a.npz") as found:
        np.testing.assert_array_equal(found["gradcam"], expected.gradcam)
        np.testing.assert_array_equal(found["guided_backprop"], expected.guided_backprop)


def test_an_h5_file_gives_the_same(model, folder, tmp_path):
    saved(model, tmp_path / "model.h5")
    words = "--format", "npz", "--method", "gradcam", "--out", tmp_path / "out"
    assert run("explain", tmp_path / "model.h5", folder / "pictures", *words) == 0
    expected = Explainer(model, methods="gradcam")(images(folder))
    np.testing.assert_array_equal(stored(tmp_path / "out", 1)["gradcam"][0], expected.gradcam[1])


def test_a_model_for_any_size_gets_one_size(tmp_path):
    model = network(size=(None, None))
    given = png(tmp_path / "a.png")
    path = saved(model, tmp_path / "m.keras")
    words = "--format", "npz", "--method", "gradcam"
    assert run("explain", path, given, *words, "--out", tmp_path / "default") == 0
    assert run("explain", path, given, *words, "--out", tmp_path / "own", "--size", "32x48") == 0
    for out, size in (("default", (224, 224)), ("own", (32, 48))):
        with np.load(tmp_path / out / "a.npz") as found:
            expected = Explainer(model, methods="gradcam")(taken(given, size))
            np.testing.assert_array_equal(found["gradcam"], expected.gradcam)


def test_one_of_several_outputs(tmp_path, capsys):
    import keras

    trunk = network()
    second = keras.layers.Dense(4, activation="softmax", name="second")(trunk.layers[-2].output)
    model = keras.Model(trunk.inputs, [trunk.outputs[0], second])
    path, given = saved(model, tmp_path / "m.keras"), png(tmp_path / "a.png")
    assert run("explain", path, given, "--out", tmp_path / "out") == 2
    assert "--output second" in capsys.readouterr().err
    words = "--output", "second", "--class", "top4", "--format", "npz", "--method", "gradcam"
    assert run("explain", path, given, "--out", tmp_path / "out", *words) == 0
    with np.load(tmp_path / "out" / "a.npz") as found:
        expected = Explainer(keras.Model(trunk.inputs, second), methods="gradcam")(taken(given))
        assert found["classes"][0] == expected.classes[0]
        np.testing.assert_allclose(found["gradcam"][:1], expected.gradcam, rtol=1e-4, atol=1e-6)


def test_a_network_of_keras_applications_prepares_its_own_pictures(tmp_path, monkeypatch):
    """With a small network in the place of the large one, whose weights are random and the same each time."""
    import keras

    def built(weights):
        assert weights is None
        layers = [keras.Input((24, 24, 3)), keras.layers.Conv2D(4, 3, activation="relu", name="conv")]
        return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)])

    monkeypatch.setattr(keras.applications, "MobileNetV2", built)
    given = png(tmp_path / "a.png")
    words = "--format", "npz", "--method", "gradcam", "--out", tmp_path / "out"
    assert run("explain", "app:MobileNetV2?weights=none", given, *words) == 0
    keras.utils.set_random_seed(0)
    expected = Explainer(built(None), methods="gradcam")(taken(given, (24, 24)) / 127.5 - 1)
    with np.load(tmp_path / "out" / "a.npz") as found:
        np.testing.assert_allclose(found["gradcam"], expected.gradcam, rtol=1e-4, atol=1e-7)
    assert manifest(tmp_path / "out")["settings"]["preprocess"] == "mobilenet_v2"
    before = contents(tmp_path / "out")
    assert run("explain", "app:MobileNetV2?weights=none", given, *words) == 0
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("reachable", [True, False])
def test_imagenet_names_come_with_imagenet_weights(tmp_path, monkeypatch, capsys, reachable):
    import keras

    def decoded(predictions, top):
        if not reachable:
            raise Exception("URL fetch failure")
        return [[("n0", f"name {number}", 1.0)] for number in range(1000)]

    monkeypatch.setattr(keras.applications, "VGG16", lambda weights: network(size=(24, 24), classes=1000))
    monkeypatch.setattr(keras.applications.imagenet_utils, "decode_predictions", decoded)
    words = "--method", "gradcam", "--out", tmp_path / "out"
    assert run("explain", "app:VGG16", png(tmp_path / "a.png"), *words) == 0
    (entry,) = manifest(tmp_path / "out")["pictures"]
    assert entry["predicted"]["name"] == (f"name {entry['predicted']['class']}" if reachable else None)
    assert ("could not be downloaded" in capsys.readouterr().err) != reachable


def test_pixels_that_nothing_scales_are_mentioned(tmp_path, capsys):
    import keras

    model = network()
    bare = keras.Sequential([keras.Input((*SIZE, 3)), *model.layers[1:]])
    given = png(tmp_path / "a.png")
    words = "--method", "gradcam", "--out"
    assert run("explain", saved(bare, tmp_path / "bare.keras"), given, *words, tmp_path / "1") == 0
    assert "values from 0 to 255" in capsys.readouterr().err
    assert run("explain", tmp_path / "bare.keras", given, "--preprocess", "none", *words, tmp_path / "2") == 0
    assert run("explain", saved(model, tmp_path / "m.keras"), given, *words, tmp_path / "3") == 0
    inputs = keras.Input((*SIZE, 3))
    divided = keras.Model(inputs, bare(inputs / 255.0))
    assert run("explain", saved(divided, tmp_path / "d.keras"), given, *words, tmp_path / "4") == 0
    assert "warning" not in capsys.readouterr().err


def test_warnings_are_single_lines(tmp_path, capsys):
    import keras

    model = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Rescaling(1.0), keras.layers.Conv2D(3, 3),
                              keras.layers.GlobalAveragePooling2D()])  # fmt: skip
    for number in range(3):
        png(tmp_path / "p" / f"{number}.png", number)
    words = "--batch-size", "1", "--out", tmp_path / "out"
    assert run("explain", saved(model, tmp_path / "m.keras"), tmp_path / "p", *words) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("keras-gradcam: warning: The model holds no ReLU")


def test_an_empty_map_says_so(tmp_path):
    model = network()
    model.layers[-1].kernel.assign(np.abs(model.layers[-1].kernel))
    given = png(tmp_path / "a.png", size=(200, 200))
    path = saved(model, tmp_path / "m.keras")
    words = "--class", "0", "--counterfactual", "--method", "gradcam", "--format", "separate"
    assert run("explain", path, given, *words, "--out", tmp_path / "out") == 0
    drawn = np.asarray(Image.open(tmp_path / "out" / "a.gradcam.png"))
    np.testing.assert_array_equal(drawn[:170], np.asarray(Image.open(given))[:170])
    assert (drawn[180:] != np.asarray(Image.open(given))[180:]).any()  # the words


def test_names_of_results_are_told_apart(folder, tmp_path):
    for number, path in enumerate(["a/x.png", "b/x.png", "b/Y.png", "b/y.jpg", "c d/ünï ☃.png"]):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(tmp_path / path)
    words = "--format", "npz", "--method", "gradcam", "--out", tmp_path / "out"
    assert run("explain", folder / "model.keras", *(tmp_path / name for name in ("a", "b", "c d")), *words) == 0
    names = {"a_x.npz", "b_x.npz", "b_Y.npz", "b_y-2.npz", "ünï ☃.npz"}
    assert set(contents(tmp_path / "out")) == {*names, "manifest.json"}
    listed = {entry["path"]: entry["files"] for entry in manifest(tmp_path / "out")["pictures"]}
    assert listed[str(tmp_path / "c d" / "ünï ☃.png")] == ["ünï ☃.npz"]
    assert len({json.dumps(files) for files in listed.values()}) == 5


def test_all_methods_are_drawn(folder, tmp_path):
    assert explain(folder, tmp_path, "--method", ",".join(METHODS)) == 0
    drawn = np.asarray(Image.open(tmp_path / "p0.png"))
    assert drawn.shape[1] > (1 + len(METHODS)) * 190
    assert len(CAMS) < len(METHODS)
