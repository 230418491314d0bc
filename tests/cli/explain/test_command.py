"""`keras-gradcam explain`: what comes out is what an Explainer says of the same pictures."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from cli_models import (
    FAST,
    NAMES,
    SIZE,
    check_refusal,
    contents,
    error_line,
    jpeg_bytes,
    manifest,
    network,
    picture,
    png,
    run,
    saved,
    taken,
)
from PIL import Image

import keras_gradcam
from keras_gradcam import Class, Explainer
from keras_gradcam.attribution.methods.names import METHODS
from keras_gradcam.cli.explain import command


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
        (["--class", "DOG", "--labels"], Class(2)),
        (["--class", "2", "--contrast", "0"], Class(2) - Class(0)),
        (["--counterfactual"], -Class()),
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


def test_preparation(model, folder, tmp_path):
    assert explain(folder, tmp_path, "--format", "npz", "--method", "gradcam", "--preprocess", "mobilenet_v2") == 0
    expected = Explainer(model, methods="gradcam")((images(folder) / 127.5 - 1).astype("float32"))
    for number in range(3):
        np.testing.assert_allclose(stored(tmp_path, number)["scores"], expected.scores[number : number + 1], rtol=1e-5)


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


def test_a_network_of_keras_applications_prepares_its_own_pictures(tmp_path, monkeypatch):
    """With a small network in the place of the large one, whose weights are random and the same each time."""

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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.keras", "gone.jpg"], "'gone.jpg', no such file or folder"),
        (["gone.keras", "pictures"], "no such model: 'gone.keras'"),
        (["model.keras", "pictures", "--out", "names.txt"], "Not a folder: 'names.txt'"),
        (["model.keras", "pictures", "--out", "pictures"], "--out must not be"),
    ],
)
def test_wrong_files(workplace, capsys, words, message):
    check_refusal(capsys, ["explain", *words], message)


def test_weights_that_are_no_numbers_fail_every_picture(workplace, capsys):
    model = network()
    model.layers[-1].kernel.assign(np.full(model.layers[-1].kernel.shape, np.nan))
    assert run("explain", saved(model, workplace / "nan.keras"), "pictures", "--out", "out", *FAST) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("keras-gradcam: warning: the model's weights are not all finite numbers")
    failed = [line for line in lines if "the model's answer is not a finite number" in line]
    assert [line.split(":")[1].strip() for line in failed] == ["pictures/p0.png", "pictures/p1.png"]
    written = manifest(workplace / "out")
    assert set(contents(workplace / "out")) == {"manifest.json"}
    assert (written["pictures"], len(written["failures"])) == ([], 2)


def test_broken_pictures_are_reported_and_the_others_explained(workplace, capsys):
    broken = {
        "empty.jpg": b"",
        "words.jpg": b"just words",
        "half.jpg": jpeg_bytes(size=(200, 200))[:500],
        "half.png": (workplace / "pictures" / "p0.png").read_bytes()[:-100],
        "loop.jpg": None,
    }
    for name, content in broken.items():
        if content is None:
            (workplace / "pictures" / name).symlink_to(workplace / "pictures" / name)
        else:
            (workplace / "pictures" / name).write_bytes(content)
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 1
    captured = capsys.readouterr()
    first, second, summary = captured.out.splitlines()
    assert first.startswith("p0.png ")
    assert second.startswith("p1.png ")
    assert summary.startswith("2 explained, 5 failed at layer last. See out")
    assert len(captured.err.splitlines()) == 5
    for name in broken:
        assert sum(f"pictures/{name}: " in line for line in captured.err.splitlines()) == 1
    written = manifest(workplace / "out")
    assert [Path(entry["path"]).name for entry in written["failures"]] == sorted(broken)
    assert set(contents(workplace / "out")) == {"p0.npz", "p1.npz", "manifest.json"}
    # Given again, nothing is done again, and the broken ones are still mentioned.
    before = contents(workplace / "out")
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 1
    assert len(capsys.readouterr().err.splitlines()) == 5
    assert contents(workplace / "out") == before
    # Repaired, they are explained.
    (workplace / "pictures" / "empty.jpg").write_bytes(jpeg_bytes())
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 1
    assert "1 explained, 2 explained before, 4 failed" in capsys.readouterr().out
    assert (workplace / "out" / "empty.npz").exists()


def test_all_pictures_broken(workplace):
    (workplace / "x.jpg").write_bytes(b"x")
    assert run("explain", "model.keras", "x.jpg", "--out", "out", *FAST) == 1
    assert manifest(workplace / "out")["pictures"] == []


def test_odd_pictures_are_explained(workplace, capsys):
    frames = [Image.fromarray(picture(number)) for number in range(3)]
    frames[0].save(workplace / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 1)).save(workplace / "dot.png")
    Image.new("RGB", (1, 20000)).save(workplace / "thread.png")
    frames[0].convert("CMYK").save(workplace / "print.jpg")
    frames[0].convert("RGBA").save(workplace / "name with spaces (1) ☃.png")
    frames[0].save(workplace / "wrong_extension.png", "jpeg")
    names = ["moving.gif", "dot.png", "thread.png", "print.jpg", "name with spaces (1) ☃.png", "wrong_extension.png"]
    for form in ("panel", "separate"):
        words = "--format", form, "--out", f"out_{form}", "--method", "gradcam,guided_backprop"
        assert run("explain", "model.keras", *names, *words) == 0
    assert capsys.readouterr().err == ""
    assert len(contents(workplace / "out_panel")) == 7
    assert len(contents(workplace / "out_separate")) == 13


def test_a_name_that_is_no_text(workplace, capsys):
    name = os.fsencode(workplace / "pictures") + b"/\xff\xfe.png"
    try:
        shutil.copy(workplace / "pictures" / "p0.png", os.fsdecode(name))
    except OSError:
        pytest.skip("this file system has no such names")
    (workplace / "pictures" / "line\nbreak\x1b[31m.png").write_bytes(b"broken")
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 1
    # Names of files cannot break lines, or send commands to the terminal.
    assert len(capsys.readouterr().err.splitlines()) == 1
    (workplace / "pictures" / "line\nbreak\x1b[31m.png").unlink()
    assert (workplace / "out" / "__.npz").exists()
    paths = [entry["path"] for entry in manifest(workplace / "out")["pictures"]]
    assert os.fsencode(paths[-1]).endswith(b"/\xff\xfe.png")
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 0


def test_nothing_of_others_is_replaced(workplace, capsys):
    (workplace / "out").mkdir()
    (workplace / "out" / "p1.png").write_bytes(b"a drawing of my own")
    assert run("explain", "model.keras", "pictures", "--out", "out", "--method", "gradcam") == 2
    assert "holds 'p1.png', which keras-gradcam did not write" in error_line(capsys)
    assert contents(workplace / "out") == {"p1.png": b"a drawing of my own"}


def test_a_full_disk_is_one_line_and_goes_on_later(workplace, capsys, monkeypatch):
    write = command.replace_whole

    def full(path, content):
        if path.name == "p1.npz":
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(command, "replace_whole", full)
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 2
    assert "No space left on device: 'out/p1.npz'. 1 of 2 are done" in error_line(capsys)
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 0
    assert "1 explained, 1 explained before" in capsys.readouterr().out
    assert set(contents(workplace / "out")) == {"p0.npz", "p1.npz", "manifest.json"}


def test_a_value_is_explained_and_called_one(tmp_path, capsys):
    pictures = [Path(png(tmp_path / "pictures" / f"p{number}.png", number)) for number in range(3)]
    model = network(classes=1, activation="linear")
    model.compile("sgd", "mse")
    saved(model, tmp_path / "model.keras")
    assert explain(tmp_path, tmp_path / "npz", *FAST) == 0
    expected = Explainer(model, methods="gradcam")(np.concatenate([taken(path) for path in pictures]))
    for number, value in enumerate(model.predict(np.concatenate([taken(path) for path in pictures]), verbose=0)[:, 0]):
        entry = next(entry for entry in manifest(tmp_path / "npz")["pictures"] if entry["name"] == f"p{number}")
        assert entry["explained"] == [{"value": pytest.approx(float(value), rel=1e-5)}]
        assert "predicted" not in entry
        found = stored(tmp_path / "npz", number)
        np.testing.assert_array_equal(found["gradcam"][0], expected.gradcam[number])
        assert {"gradcam", "scores"} <= set(found) <= {"gradcam", "scores", "spans"}
    assert explain(tmp_path, tmp_path / "panels") == 0
    for words in (("--class", "0"), ("--class", "top2"), ("--contrast", "1"), ("--counterfactual",), ("--labels", "x")):
        if words[0] == "--labels":
            (tmp_path / "x").write_text("cat\ndog\n")
            words = ("--labels", tmp_path / "x")
        capsys.readouterr()
        assert explain(tmp_path, tmp_path / "refused", *words) == 2
        assert "MODEL predicts a value" in error_line(capsys)
    assert not (tmp_path / "refused").exists()


def test_pictures_of_16_bits_are_explained_as_they_are_or_as_is_said(tmp_path, capsys):
    xray = np.full(SIZE, 600, np.uint16)
    xray[4:10, 4:10] = 4000
    (tmp_path / "pictures").mkdir()
    for name in ("p0", "p1"):
        Image.fromarray(xray).save(tmp_path / "pictures" / f"{name}.png")
    model = network(channels=1)
    saved(model, tmp_path / "model.keras")
    for words, factor in (((), 1 / 257), (("--range", "0,4095"), 255 / 4095), (("--range", "raw"), 1)):
        out = tmp_path / "-".join(["out", *words])
        assert explain(tmp_path, out, *FAST, *words) == 0
        expected = model.predict(xray[None, ..., None] * np.float32(factor), verbose=0)[0]
        entry = manifest(out)["pictures"][0]
        assert entry["predicted"]["probability"] == pytest.approx(expected.max(), rel=1e-4)
        assert entry["depth"].startswith("values from 600 to 4000 of 16 bits were ")
        said = capsys.readouterr().err
        assert said.count("note: ") == (0 if words else 1), said
        if not words:
            assert "0 to 0 and 65535 to 255" in said
            assert "--range LOW,HIGH" in said
    assert explain(tmp_path, tmp_path / "refused", *FAST, "--range", "5") == 2
    assert "--range must have two numbers" in error_line(capsys)


def test_a_line_per_picture_says_what_the_model_answers(workplace, capsys):
    words = ["explain", "model.keras", "pictures", "--out", "out", *FAST]
    assert run(*words, "--class", "1") == 0
    *rows, _ = capsys.readouterr().out.splitlines()
    entries = manifest(workplace / "out")["pictures"]
    assert len(rows) == len(entries) == 2
    for row, entry in zip(rows, entries, strict=True):
        (explained,), predicted = entry["explained"], entry["predicted"]
        said = f"class 1 {explained['probability']:.2f}, score {explained['score']:.3g}"
        if predicted["class"] != 1:
            said = f"predicted: class {predicted['class']} {predicted['probability']:.2f}; explained: {said}"
        assert row == f"{Path(entry['path']).name}  {said}"
    assert run(*words, "--class", "1", "--overwrite", "--quiet") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.fixture
def finished(workplace, tmp_path):
    """A folder of pictures that were last changed a minute ago, and its results."""
    png(workplace / "pictures" / "p2.png", 2)
    for path in (workplace / "pictures").rglob("*.png"):
        os.utime(path, (time.time() - 60,) * 2)
    words = workplace, tmp_path / "finished", "--method", "gradcam", "--format", "npz"
    assert explain(*words) == 0
    return words


def test_a_picture_that_was_not_touched_is_not_read_again(finished, capsys, monkeypatch):
    def refuse(path, *_):
        raise AssertionError(f"{path} is read")

    monkeypatch.setattr(command, "file_digest", refuse)
    monkeypatch.setattr(command, "read_picture", refuse)
    assert explain(*finished) == 0
    assert "3 explained before" in capsys.readouterr().out


def test_a_touched_picture_is_compared_and_a_changed_one_explained_again(finished, capsys):
    first, second, _ = sorted((finished[0] / "pictures").rglob("*.png"))
    first.touch()
    png(second, 77)
    os.utime(second, (time.time() - 30,) * 2)
    assert explain(*finished) == 0
    assert "1 explained, 2 explained before" in capsys.readouterr().out


def test_a_picture_changed_a_moment_ago_is_compared_next_time(finished, capsys):
    """It could be changed again within one tick of the clock, which its size and time would not tell."""
    path = min((finished[0] / "pictures").rglob("*.png"))
    png(path, 78)
    assert explain(*finished) == 0
    status = os.stat(path)
    png(path, 79)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    capsys.readouterr()
    assert explain(*finished) == 0
    assert "1 explained, 2 explained before" in capsys.readouterr().out


def test_a_result_that_is_gone_is_made_again(finished, capsys):
    min(finished[1].glob("*.npz")).unlink()
    capsys.readouterr()
    assert explain(*finished) == 0
    assert "1 explained, 2 explained before" in capsys.readouterr().out
