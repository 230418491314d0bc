"""Wrong usage and wrong input: one clear line, an exit code, and nothing written or lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from cli_models import SIZE, contents, jpeg_bytes, manifest, network, picture, png, run, saved
from keras import layers as L  # noqa: N812
from PIL import Image

FAST = ("--method", "gradcam", "--format", "npz")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with a model, pictures and names, which every test gets a copy of."""
    folder = tmp_path_factory.mktemp("given")
    saved(network(), folder / "model.keras")
    for number in range(2):
        png(folder / "pictures" / f"p{number}.png", number)
    (folder / "names.txt").write_text("cat\nwild cat\ndog\n")
    return folder


@pytest.fixture
def folder(given, tmp_path, monkeypatch):
    shutil.copytree(given, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def error_line(capsys) -> str:
    """The only line on stderr apart from warnings."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning:" not in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("keras-gradcam: error: ")
    assert "Traceback" not in lines[0]
    return lines[0].removeprefix("keras-gradcam: error: ")


# --- usage ----------------------------------------------------------------------------------------------------------

USAGE = {
    "nothing": ([], "required: COMMAND"),
    "unknown command": (["explian"], "invalid choice: 'explian'"),
    "no pictures": (["explain", "model.keras"], "required: IMAGES"),
    "unknown option": (["explain", "model.keras", "pictures", "--colour", "x"], "unrecognized arguments: --colour x"),
    "abbreviated option": (["explain", "model.keras", "pictures", "--lab", "x"], "unrecognized arguments: --lab x"),
    "batch size": (["explain", "model.keras", "pictures", "--batch-size", "0"], "must be a whole number >= 1, not '0'"),
    "unknown format": (["explain", "model.keras", "pictures", "--format", "gif"], "invalid choice: 'gif'"),
    "unknown method": (
        ["explain", "model.keras", "pictures", "--method", "gradcam,gradcma"],
        "--method must name known methods, at least one. .*'gradcma'.* Candidates: gradcam, gradcam_plus_plus",
    ),
    "unknown colormap": (["explain", "model.keras", "pictures", "--colormap", "nope"], "Received: 'nope'"),
    "unknown preparation": (["explain", "model.keras", "pictures", "--preprocess", "vgg"], "Candidates: vgg1"),
    "missing picture": (["explain", "model.keras", "gone.jpg"], "no such file or folder: 'gone.jpg'"),
    "pattern without matches": (["explain", "model.keras", "pictures/*.bmp"], r"no file matches 'pictures/\*.bmp'"),
    "empty folder": (["explain", "model.keras", "empty"], "'empty' holds no pictures"),
    "missing model": (["explain", "gone.keras", "pictures"], "no such model: 'gone.keras'"),
    "missing labels": (["explain", "model.keras", "pictures", "--labels", "gone.txt"], "No such file.*'gone.txt'"),
    "short labels": (["explain", "model.keras", "pictures", "--labels", "short.txt"], "3 classes, 0 to 2. .*: 2 names"),
    "class out of range": (["explain", "model.keras", "pictures", "--class", "3"], "Received: 3. Candidates: 0 to 2"),
    "class without names": (["explain", "model.keras", "pictures", "--class", "cat"], "--labels FILE"),
    "unknown class": (
        ["explain", "model.keras", "pictures", "--class", "cow", "--labels", "names.txt"],
        "'cow' is no class of the model. Candidates: 0 'cat', 1 'wild cat', 2 'dog'",
    ),
    "contrast with itself": (
        ["explain", "model.keras", "pictures", "--class", "1", "--contrast", "1"],
        "another class",
    ),
    "contrast and counterfactual": (
        ["explain", "model.keras", "pictures", "--contrast", "1", "--counterfactual"],
        "exclude each other",
    ),
    "too many places": (["explain", "model.keras", "pictures", "--class", "top4"], "top1 to top3.*Received: top4"),
    "no places": (["explain", "model.keras", "pictures", "--class", "top0"], "top1 to top3"),
    "unknown layer": (
        ["explain", "model.keras", "pictures", "--layer", "lsat"],
        "--layer must name a layer .* Received: 'lsat'. Candidates: 'last'",
    ),
    "layer without space": (
        ["explain", "model.keras", "pictures", "--layer", "mean"],
        "Received: 'mean', whose output",
    ),
    "another size": (
        ["explain", "model.keras", "pictures", "--size", "32"],
        "--size must be what the model takes, 16x12",
    ),
    "no size": (["explain", "model.keras", "pictures", "--size", "big"], "--size must be HEIGHTxWIDTH"),
    "unknown output": (
        ["explain", "model.keras", "pictures", "--output", "second"],
        "--output must name one of the model's outp",
    ),
    "out is a file": (["explain", "model.keras", "pictures", "--out", "names.txt"], "Not a folder: 'names.txt'"),
    "out in a file": (["explain", "model.keras", "pictures", "--out", "names.txt/x"], "Not a folder: .*names.txt"),
    "out is what is explained": (["explain", "model.keras", "pictures", "--out", "pictures"], "--out must not be"),
    "unknown application": (["explain", "app:MobilNetV2", "pictures"], "Candidates: .*app:MobileNetV2"),
    "odd application": (["explain", "app:MobileNetV2?alpha=2", "pictures"], "app:NAME.weights=none"),
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_is_one_line_and_writes_nothing(folder, capsys, name):
    (folder / "empty").mkdir()
    (folder / "short.txt").write_text("cat\ndog")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    words, message = USAGE[name]
    assert run(*words) == 2
    line = error_line(capsys)
    assert _found(message, line), line
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before
    assert not (folder / "gradcam_out").exists()


def _found(pattern: str, text: str) -> bool:
    import re

    return re.search(pattern, text) is not None


# --- models ---------------------------------------------------------------------------------------------------------


def _two_inputs(path: Path) -> Path:
    one, other = keras.Input((*SIZE, 3), name="one"), keras.Input((*SIZE, 3), name="other")
    x = L.GlobalAveragePooling2D()(L.Conv2D(2, 3)(L.Add()([one, other])))
    return Path(saved(keras.Model([one, other], L.Dense(2)(x)), path / "m.keras"))


def _without_space(path: Path) -> Path:
    layers = [keras.Input((*SIZE, 3)), L.Flatten(), L.Dense(4, activation="relu"), L.Dense(2)]
    return Path(saved(keras.Sequential(layers), path / "m.keras"))


def _flat_input(path: Path) -> Path:
    return Path(saved(keras.Sequential([keras.Input((7,)), L.Dense(2)]), path / "m.keras"))


def _no_classes(path: Path) -> Path:
    return Path(saved(keras.Sequential([keras.Input((*SIZE, 3)), L.Rescaling(1.0), L.Conv2D(2, 3)]), path / "m.keras"))


def _embedding(path: Path) -> Path:
    return Path(
        saved(
            keras.Sequential([keras.Input((*SIZE, 3)), *network().layers[:-1], L.UnitNormalization()]), path / "m.keras"
        )
    )


def _lambda(path: Path, name: str) -> Path:
    layers = [keras.Input((*SIZE, 3)), L.Lambda(lambda x: x * 2), L.Conv2D(2, 3), L.GlobalAveragePooling2D()]
    return Path(saved(keras.Sequential(layers), path / name))


@keras.saving.register_keras_serializable("somebody")
class Own(keras.layers.Layer):
    """A layer that the command line cannot know."""


def _own_layer(path: Path) -> Path:
    layers = [keras.Input((*SIZE, 3)), Own(), L.Conv2D(2, 3), L.GlobalAveragePooling2D()]
    saved(keras.Sequential(layers), path / "m.keras")
    # The very same file, of a layer that nobody has registered.
    with zipfile.ZipFile(path / "m.keras") as old, zipfile.ZipFile(path / "other.keras", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"Own", b"Odd").replace(b"test_cli_inputs", b"no_such_module"))
    return path / "other.keras"


def _bytes(path: Path, name: str, content: bytes) -> Path:
    (path / name).write_bytes(content)
    return path / name


def _torn(path: Path, name: str) -> Path:
    content = Path(saved(network(), path / name)).read_bytes()
    return _bytes(path, f"torn{name}", content[: len(content) * 2 // 3])


def _weights(path: Path) -> Path:
    network().save_weights(path / "m.weights.h5")
    return path / "m.weights.h5"


def _renamed_weights(path: Path) -> Path:
    return _weights(path).rename(path / "m.h5")


def _saved_model(path: Path) -> Path:
    (path / "exported" / "variables").mkdir(parents=True)
    (path / "exported" / "saved_model.pb").touch()
    return path / "exported"


MODELS = {
    "several inputs": (_two_inputs, "Received: a model with 2 inputs"),
    "without spatial layers": (_without_space, "no layer's output has the spatial axes"),
    "input of numbers": (_flat_input, r"shape \(batch, height, width, channels\). Received: \(None, 7\)"),
    "no classes": (_no_classes, r"must have classes. Received: an output of shape \(None, 14, 10, 2\)"),
    "embedding": (_embedding, "whose units are no classes"),
    "four channels": (lambda path: Path(saved(network(channels=4), path / "m.keras")), "Received: 4"),
    "channels first": (
        lambda path: Path(saved(keras.Sequential([keras.Input((3, 16, 12)), L.Conv2D(2, 2)]), path / "m.keras")),
        "Received: 12. It looks as if its channels came first",
    ),
    "pickled code": (lambda path: _lambda(path, "m.keras"), "pickled Python code.*is not loaded"),
    "pickled code in h5": (lambda path: _lambda(path, "m.h5"), "pickled Python code.*is not loaded"),
    "a layer of somebody's own": (_own_layer, "is made of 'Odd', which Keras does not know"),
    "no zip": (lambda path: _bytes(path, "m.keras", b"no model at all"), "is no .keras file"),
    "empty": (lambda path: _bytes(path, "m.keras", b""), "is no .keras file"),
    "another zip": (
        lambda path: Path(shutil.make_archive(str(path / "m"), "zip", path.parent, ".")).rename(path / "m.keras"),
        "cannot be loaded",
    ),
    "no hdf5": (lambda path: _bytes(path, "m.h5", b"no model at all"), "is no HDF5 file"),
    "torn": (lambda path: _torn(path, "m.keras"), "was not written to its end"),
    "torn h5": (lambda path: _torn(path, "m.h5"), "was not written to its end|cannot be loaded"),
    "weights alone": (_weights, "weights alone"),
    "weights alone, renamed": (_renamed_weights, "weights alone"),
    "saved model": (_saved_model, "a folder .* Candidates: load it with the Keras that saved it"),
    "another file": (lambda path: _bytes(path, "m.onnx", b"x"), "must be a .keras or .h5 file"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_cannot_be_explained(folder, capsys, name):
    make, message = MODELS[name]
    (folder / "other").mkdir()
    model = make(folder / "other")
    capsys.readouterr()
    assert run("explain", model, "pictures", "--out", "out", "--method", "gradcam") == 2
    line = error_line(capsys)
    assert _found(message, line), line
    assert not (folder / "out").exists()


def test_weights_that_are_no_numbers_fail_every_picture(folder, capsys):
    model = network()
    model.layers[-1].kernel.assign(np.full(model.layers[-1].kernel.shape, np.nan))
    assert run("explain", saved(model, folder / "nan.keras"), "pictures", "--out", "out", *FAST) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("keras-gradcam: warning: the model's weights are not all finite numbers")
    failed = [line for line in lines if "the model's answer is not a finite number" in line]
    assert [line.split(":")[1].strip() for line in failed] == ["pictures/p0.png", "pictures/p1.png"]
    written = manifest(folder / "out")
    assert set(contents(folder / "out")) == {"manifest.json"}
    assert (written["pictures"], len(written["failures"])) == ([], 2)


def test_a_failed_download_is_one_line(folder, capsys, monkeypatch):
    def offline(**_options):
        raise Exception("URL fetch failure on https://storage.googleapis.com/...:\n None")

    monkeypatch.setattr(keras.applications, "MobileNetV2", offline)
    assert run("explain", "app:MobileNetV2", "pictures") == 2
    assert error_line(capsys).startswith("the weights of MobileNetV2 could not be downloaded: URL fetch failure")


# --- pictures -------------------------------------------------------------------------------------------------------


def test_broken_pictures_are_reported_and_the_others_explained(folder, capsys):
    broken = {
        "empty.jpg": b"",
        "words.jpg": b"just words",
        "half.jpg": jpeg_bytes(size=(200, 200))[:500],
        "half.png": (folder / "pictures" / "p0.png").read_bytes()[:-100],
        "loop.jpg": None,
    }
    for name, content in broken.items():
        if content is None:
            (folder / "pictures" / name).symlink_to(folder / "pictures" / name)
        else:
            (folder / "pictures" / name).write_bytes(content)
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("2 explained, 5 failed at layer last. See out")
    assert len(captured.err.splitlines()) == 5
    for name in broken:
        assert sum(f"pictures/{name}: " in line for line in captured.err.splitlines()) == 1
    written = manifest(folder / "out")
    assert [Path(entry["path"]).name for entry in written["failures"]] == sorted(broken)
    assert set(contents(folder / "out")) == {"p0.npz", "p1.npz", "manifest.json"}
    # Given again, nothing is done again, and the broken ones are still mentioned.
    before = contents(folder / "out")
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 1
    assert len(capsys.readouterr().err.splitlines()) == 5
    assert contents(folder / "out") == before
    # Repaired, they are explained.
    (folder / "pictures" / "empty.jpg").write_bytes(jpeg_bytes())
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 1
    assert "1 explained, 2 explained before, 4 failed" in capsys.readouterr().out
    assert (folder / "out" / "empty.npz").exists()


def test_all_pictures_broken(folder):
    (folder / "x.jpg").write_bytes(b"x")
    assert run("explain", "model.keras", "x.jpg", "--out", "out", *FAST) == 1
    assert manifest(folder / "out")["pictures"] == []


def test_odd_pictures_are_explained(folder, capsys):
    frames = [Image.fromarray(picture(number)) for number in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (1, 20000)).save(folder / "thread.png")
    frames[0].convert("CMYK").save(folder / "print.jpg")
    frames[0].convert("RGBA").save(folder / "name with spaces (1) ☃.png")
    frames[0].save(folder / "wrong_extension.png", "jpeg")
    names = ["moving.gif", "dot.png", "thread.png", "print.jpg", "name with spaces (1) ☃.png", "wrong_extension.png"]
    for form in ("panel", "separate"):
        words = "--format", form, "--out", f"out_{form}", "--method", "gradcam,guided_backprop"
        assert run("explain", "model.keras", *names, *words) == 0
    assert capsys.readouterr().err == ""
    assert len(contents(folder / "out_panel")) == 7
    assert len(contents(folder / "out_separate")) == 13


def test_a_name_that_is_no_text(folder, capsys):
    name = os.fsencode(folder / "pictures") + b"/\xff\xfe.png"
    try:
        shutil.copy(folder / "pictures" / "p0.png", os.fsdecode(name))
    except OSError:
        pytest.skip("this file system has no such names")
    (folder / "pictures" / "line\nbreak\x1b[31m.png").write_bytes(b"broken")
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 1
    # Names of files cannot break lines, or send commands to the terminal.
    assert len(capsys.readouterr().err.splitlines()) == 1
    (folder / "pictures" / "line\nbreak\x1b[31m.png").unlink()
    assert (folder / "out" / "__.npz").exists()
    paths = [entry["path"] for entry in manifest(folder / "out")["pictures"]]
    assert os.fsencode(paths[-1]).endswith(b"/\xff\xfe.png")
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 0


def test_permissions(given, tmp_path):
    """As a user who is not root: root may read and write everything."""
    if os.name != "posix":
        pytest.skip("POSIX permissions")
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from keras_gradcam.cli.inputs.pictures import read_file\n"
        "from keras_gradcam.files import check_writable\n"
        "if os.getuid() == 0:\n    os.setgid(65534)\n    os.setuid(65534)\n"
        "for action in (lambda: read_file(sys.argv[1]), lambda: check_writable(Path(sys.argv[2])),\n"
        "               lambda: check_writable(Path(sys.argv[2]) / 'new')):\n"
        "    try:\n        print('no error', action())\n"
        "    except Exception as error:\n        print(type(error).__name__, error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        secret, closed = Path(folder) / "secret.png", Path(folder) / "closed"
        shutil.copy(given / "pictures" / "p0.png", secret)
        secret.chmod(0)
        closed.mkdir(mode=0o555)
        done = subprocess.run(
            [sys.executable, "-c", script, str(secret), str(closed)], capture_output=True, text=True, timeout=60
        )
    lines = done.stdout.splitlines()
    assert lines[0] == "PictureError cannot be read: Permission denied", done
    assert lines[1].startswith("PermissionError")
    assert lines[2].startswith("PermissionError")


# --- results --------------------------------------------------------------------------------------------------------


def test_nothing_of_others_is_replaced(folder, capsys):
    (folder / "out").mkdir()
    (folder / "out" / "p1.png").write_bytes(b"a drawing of my own")
    assert run("explain", "model.keras", "pictures", "--out", "out", "--method", "gradcam") == 2
    assert "holds 'p1.png', which keras-gradcam did not write" in error_line(capsys)
    assert contents(folder / "out") == {"p1.png": b"a drawing of my own"}


@pytest.mark.parametrize("content", [b"{}", b"[]", b"not json", b'{"files": []}'])
def test_no_manifest_of_others_is_replaced(folder, capsys, content):
    (folder / "out").mkdir()
    (folder / "out" / "manifest.json").write_bytes(content)
    for words in ((), ("--overwrite",)):
        assert run("explain", "model.keras", "pictures", "--out", "out", *FAST, *words) == 2
        assert "was not written by keras-gradcam and would be replaced" in error_line(capsys)
    assert contents(folder / "out") == {"manifest.json": content}


def test_other_settings_need_a_word(folder, capsys):
    assert run("explain", "model.keras", "pictures", "--out", "out", "--method", "gradcam") == 0
    before = contents(folder / "out")
    capsys.readouterr()
    for words, message in (
        (["--method", "hirescam"], "methods: gradcam, not hirescam"),
        (["--method", "gradcam", "--class", "1"], "class: predicted, not 1"),
        (["--method", "gradcam", "--labels", "names.txt"], "labels: None, not "),
    ):
        assert run("explain", "model.keras", "pictures", "--out", "out", *words) == 2
        line = error_line(capsys)
        assert "was made otherwise" in line or "were made otherwise" in line
        assert message in line
        assert "--overwrite" in line
        assert contents(folder / "out") == before
    saved(network(seed=1), folder / "model.keras")
    assert run("explain", "model.keras", "pictures", "--out", "out", "--method", "gradcam") == 2
    assert "of another content" in error_line(capsys)


def test_overwriting_removes_what_was_there(folder):
    assert run("explain", "model.keras", "pictures", "--out", "out", "--method", "gradcam") == 0
    (folder / "out" / "mine.txt").write_text("mine")
    assert run("explain", "model.keras", "pictures/p0.png", "--out", "out", *FAST, "--overwrite") == 0
    assert set(contents(folder / "out")) == {"p0.npz", "manifest.json", "mine.txt"}
    assert len(manifest(folder / "out")["pictures"]) == 1


def test_a_manifest_cannot_make_us_remove_what_lies_elsewhere(folder):
    assert run("explain", "model.keras", "pictures/p0.png", "--out", "out", *FAST) == 0
    written = manifest(folder / "out")
    written["pictures"][0]["files"] = ["../names.txt", str(folder / "names.txt"), "p0.npz"]
    (folder / "out" / "manifest.json").write_text(json.dumps(written))
    assert run("explain", "model.keras", "pictures/p0.png", "--out", "out", *FAST, "--overwrite") == 0
    assert (folder / "names.txt").exists()


def test_a_full_disk_is_one_line_and_goes_on_later(folder, capsys, monkeypatch):
    from keras_gradcam.cli.explain import command as explain

    write = explain.replace_whole

    def full(path, content):
        if path.name == "p1.npz":
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(explain, "replace_whole", full)
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 2
    assert "No space left on device: 'out/p1.npz'. 1 of 2 are done" in error_line(capsys)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert run("explain", "model.keras", "pictures", "--out", "out", *FAST) == 0
    assert "1 explained, 1 explained before" in capsys.readouterr().out
    assert set(contents(folder / "out")) == {"p0.npz", "p1.npz", "manifest.json"}


def test_debug_shows_the_traceback(folder, capsys):
    assert run("explain", "model.keras", "pictures", "--layer", "gone", "--debug") == 2
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.splitlines()[-1].startswith("keras-gradcam: error: --layer must name")
