"""The other commands, and what all of them share: help, exit codes, silence."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tab_runs
from cli_models import SIZE, jpeg_bytes, network, picture, png, run, saved, taken
from keras import layers as L  # noqa: N812
from models import randomised
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event

from keras_gradcam import Explainer, GuidedGradCAMCallback, __version__, list_layers
from keras_gradcam.cli import tensorboard
from keras_gradcam.cli.arguments import COMMANDS
from keras_gradcam.cli.inputs.preprocessing import read_preprocessing
from keras_gradcam.filters.kernels import filter_kernels
from keras_gradcam.filters.top_activations import top_activations
from keras_gradcam.reid import rank, rank_figure


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    saved(model, folder / "model.keras")
    for number in range(5):
        png(folder / "pictures" / f"p{number}.png", number)
    return folder


# --- what all commands share ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)])
def test_help_does_not_wait_for_tensorflow(words):
    code = (
        f"import sys\nfrom keras_gradcam.cli import main\ntry:\n    main({words!r})\nexcept SystemExit as end:\n"
        "    heavy = {'tensorflow', 'keras', 'numpy', 'PIL', 'matplotlib', 'tensorboard', 'scipy'} & set(sys.modules)\n"
        "    print('code', end.code, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    *text, last = done.stdout.splitlines()
    assert last == "code 0 []", done
    if words == ["--version"]:
        assert text == [f"keras-gradcam {__version__}"]
    else:
        assert "exit codes: 0 all went well, 1 some pictures failed, 2 wrong usage or input, 130 interrupted" in text
    if len(words) == 2:
        start = text.index("examples:")
        assert text[start + 1].startswith(f"  keras-gradcam {words[0]} ")
        assert all(len(line) <= 120 for line in text)


def test_examples_of_the_help_are_understood(capsys):
    from keras_gradcam.cli.arguments import parse

    for command in COMMANDS:
        with pytest.raises(SystemExit):
            parse([command, "--help"])
        examples = re.findall(r"^  keras-gradcam (.*)$", capsys.readouterr().out, re.MULTILINE)
        assert len(examples) >= 2
        for example in examples:
            import shlex

            assert parse(shlex.split(example.split(" > ")[0])).command == command


def test_the_entry_point_is_declared():
    text = (Path(__file__).parents[2] / "setup.cfg").read_text()
    assert "keras-gradcam = keras_gradcam.cli:main" in text


def test_tensorflow_is_silent_and_the_reader_may_stop(folder):
    """As a user starts it, who has set nothing."""
    done = subprocess.run(
        f"{sys.executable} -m keras_gradcam layers {folder}/model.keras | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=120,
        env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"},
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["path", "class", "output", "shape", "call"]


# --- layers ---------------------------------------------------------------------------------------------------------


def test_layers(model, folder, capsys):
    assert run("layers", folder / "model.keras") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["path", "class", "output", "shape", "call"]
    expected = [f"{one.path} {one.layer_type}" for one in list_layers(model)]
    assert [" ".join(row.replace("*", "").split()[:2]) for row in rows[:-2]] == expected
    assert [row.split()[1] for row in rows[:-2] if row.startswith("*")] == ["last"]
    assert "6 x 4 x 5" in rows[2]
    assert rows[-1] == "* is explained unless --layer names another"


def test_layers_of_models_that_cannot_be_explained_here(tmp_path, capsys):
    one, other = keras.Input((8, 8, 3), name="one"), keras.Input((None, None, 4), name="other")
    shared = L.Conv2D(2, 3, padding="same", name="shared")
    maps = [shared(L.Conv2D(3, 1, name=f"conv_{x.name}")(x)) for x in (one, other)]
    means = [L.GlobalAveragePooling2D()(x) for x in maps]
    model = keras.Model([one, other], [L.Dense(2)(means[0]), L.Dense(3)(L.Concatenate()(means))])
    assert run("layers", saved(model, tmp_path / "m.keras")) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[-1] for row in rows if "shared" in row] == ["0", "1"]
    assert sum(row.startswith("*") for row in rows) == 2  # the row and the note
    assert run("layers", saved(keras.Sequential([keras.Input((7,)), L.Dense(2)]), tmp_path / "flat.keras")) == 2
    assert "no layer with spatial extent" in capsys.readouterr().err


# --- filters and top ------------------------------------------------------------------------------------------------


def test_filters(model, folder, tmp_path, capsys):
    assert run("filters", folder / "model.keras", "--out", tmp_path / "f.png") == 0
    drawn = np.asarray(Image.open(tmp_path / "f.png"))
    np.testing.assert_array_equal(drawn, filter_kernels(model).draw())
    assert capsys.readouterr().out.startswith("6 filters of first. See ")
    words = "--layer", "last", "--sort", "none", "--common", "--out", tmp_path / "g.png"
    assert run("filters", folder / "model.keras", *words) == 0
    drawn = np.asarray(Image.open(tmp_path / "g.png"))
    np.testing.assert_array_equal(drawn, filter_kernels(model, "last", None).draw("common"))


def test_top(model, folder, tmp_path, capsys):
    words = "--layer", "first", "--filters", "1,4", "--top", "2", "--batch-size", "2", "--out", tmp_path / "t.png"
    assert run("top", folder / "model.keras", folder / "pictures", *words) == 0
    images = np.concatenate([taken(folder / "pictures" / f"p{number}.png") for number in range(5)])
    found = top_activations(model, images, "first", [1, 4], 2, batch_size=2)
    drawn = np.asarray(Image.open(tmp_path / "t.png"))
    np.testing.assert_array_equal(drawn, found.draw(lambda crop: crop.astype(np.uint8)))
    written = json.loads((tmp_path / "t.json").read_bytes())
    assert written["layer"] == "first"
    assert [(one["filter"], one["picture"], one["activation"]) for one in written["activations"]] == [
        (which, one.index, one.value) for which, row in zip((1, 4), found.activations, strict=True) for one in row
    ]
    assert all(Path(one["path"]).name == f"p{one['picture']}.png" for one in written["activations"])


def test_top_leaves_broken_pictures_out(folder, tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"broken")
    (tmp_path / "b.jpg").write_bytes(jpeg_bytes())
    words = "--out", tmp_path / "t.png"
    assert run("top", folder / "model.keras", tmp_path, *words) == 1
    written = json.loads((tmp_path / "t.json").read_bytes())
    # Of all five filters that the layer has.
    assert [Path(one["path"]).name for one in written["activations"]] == ["b.jpg"] * 5
    assert [Path(one["path"]).name for one in written["failures"]] == ["a.jpg"]
    assert run("top", folder / "model.keras", tmp_path / "a.jpg", *words) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "keras-gradcam: error: none of the pictures could be read."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["filters", "M", "--layer", "mean"], "--layer must name one Conv2D or DepthwiseConv2D layer"),
        (["filters", "M", "--out", "f.jpg"], "--out must be a .png file"),
        (["filters", "M", "--out", "nowhere/f.png"], "a file in a folder that is there"),
        (["top", "M", "P", "--filters", "a"], "numbers with commas between"),
        (["top", "M", "P", "--filters", "99"], "--filters must be channels of the layer. .* Candidates: 0 to 4"),
        (["top", "M", "P", "--top", "0"], "must be a whole number >= 1"),
        (["top", "M", "P", "--layer", "gone"], "--layer must name a layer"),
    ],
)
def test_wrong_words_for_filters(folder, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    names = {"M": folder / "model.keras", "P": folder / "pictures"}
    assert run(*(names.get(word, word) for word in words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert list(tmp_path.iterdir()) == []


# --- rank -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A network that embeds, three queries and eight pictures to find them in, named as in Market-1501."""
    folder = tmp_path_factory.mktemp("people")
    embedder = randomised(
        keras.Sequential(
            [
                keras.Input((*SIZE, 3)),
                L.Conv2D(8, 3, activation="relu", name="conv"),
                L.GlobalAveragePooling2D(),
                L.Dense(6, use_bias=False),
                L.UnitNormalization(),
            ]
        )
    )
    saved(embedder, folder / "reid.keras")
    queries = ["0001_c1s1_000001_00.png", "0002_c1s1_000002_00.png", "0007_c2s1_000003_00.png"]
    gallery = [
        *("-1_c1s1_000009_00.png", "0000_c3s1_000010_00.png", "0001_c1s1_000011_00.png", "0001_c2s1_000012_00.png"),
        *("0001_c3s1_000013_00.png", "0002_c2s1_000014_00.png", "0003_c1s1_000015_00.png", "0003_c2s1_000016_00.png"),
    ]
    for number, name in enumerate(queries):
        png(folder / "query" / name, number)
    for number, name in enumerate(gallery):
        png(folder / "gallery" / name, 10 + number)
    return folder, embedder, queries, gallery


def columns(folder, names, prepared):
    images = np.concatenate([prepared(taken(folder / name)) for name in sorted(names)])
    identities = [int(name.split("_")[0]) for name in sorted(names)]
    cameras = [int(name.split("_c")[1][0]) for name in sorted(names)]
    return images, identities, cameras


def test_rank(people, tmp_path, capsys):
    folder, embedder, queries, gallery = people
    words = "--query", folder / "query", "--gallery", folder / "gallery", "--preprocess", "1/127.5,-1"
    assert run("rank", folder / "reid.keras", *words, "--top", "4", "--show", "2", "--out", tmp_path / "out") == 0
    captured = capsys.readouterr()
    prepared = read_preprocessing("1/127.5,-1")
    given = columns(folder / "query", queries, prepared), columns(folder / "gallery", gallery, prepared)
    with pytest.warns(UserWarning, match="1 of 3 queries have no right match"):
        expected = rank(*given, Explainer(embedder, methods=["gradcam"]), top=4, explain=2, progress=False)
    written = json.loads((tmp_path / "out" / "ranking.json").read_bytes())
    assert written["mean_ap"] == pytest.approx(expected.mean_ap)
    assert [written["rank_1"], written["rank_5"]] == pytest.approx([expected.cmc[0], expected.cmc[4]])
    assert "rank_10" not in written
    names = sorted(gallery)
    for number, one in enumerate(written["rankings"]):
        assert Path(one["path"]).name == sorted(queries)[number]
        places = [place for place in expected.indices[number] if place >= 0]
        assert [Path(found["path"]).name for found in one["top"]] == [names[place] for place in places]
        assert [found["correct"] for found in one["top"]] == expected.correct[number][: len(places)].tolist()
        np.testing.assert_allclose(
            [found["similarity"] for found in one["top"]], expected.similarities[number][: len(places)], rtol=1e-5
        )
    assert written["rankings"][2]["average_precision"] is None
    junk = {Path(found["path"]).name for one in written["rankings"] for found in one["top"]}
    assert "-1_c1s1_000009_00.png" not in junk
    assert f"mAP      {100 * expected.mean_ap:.1f} %" in captured.out
    assert f"rank-1   {100 * expected.cmc[0]:.1f} %" in captured.out
    assert captured.err.count("queries have no right match") == 1
    # The drawing is that of the same lists, with the pictures as people see them.
    drawn = np.asarray(Image.open(tmp_path / "out" / "rank_list.png"))
    shown = [_with_pixels(one, prepared) for one in expected.explained]
    assert drawn.shape == rank_figure(shown).shape
    assert np.abs(drawn.astype(int) - rank_figure(shown)).mean() < 0.5


def test_people_in_folders_of_their_own(people, tmp_path, monkeypatch):
    folder, embedder, _, gallery = people
    for name in gallery[1:]:
        identity, camera = name.split("_")[0], name.split("_c")[1][0]
        target = tmp_path / "gallery" / identity / f"cam{camera}" / f"{name[-12:]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((folder / "gallery" / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    words = "--query", "gallery/", "--gallery", tmp_path / "gallery", "--preprocess", "none", "--show", "3"
    pattern = r"(?P<id>\d+)/cam(?P<camera>\d+)"
    assert run("rank", folder / "reid.keras", *words, "--pattern", pattern, "--out", tmp_path / "out") == 0
    given = columns(folder / "gallery", gallery[1:], lambda x: x)
    with pytest.warns(UserWarning, match="have no right match"):
        expected = rank(given, given, Explainer(embedder, methods=["gradcam"]), explain=[0, 1, 4], progress=False)
    written = json.loads((tmp_path / "out" / "ranking.json").read_bytes())
    assert written["mean_ap"] == pytest.approx(expected.mean_ap)
    # Pictures 1, 2 and 3 are of one person.
    drawn = np.asarray(Image.open(tmp_path / "out" / "rank_list.png"))
    assert np.abs(drawn.astype(int) - rank_figure(expected.explained)).mean() < 0.5


def _with_pixels(one, prepared):
    from dataclasses import replace

    return replace(one, query=prepared.undo(one.query), pictures=prepared.undo(one.pictures))


def test_a_folder_ranked_in_itself(people, tmp_path):
    folder, embedder, _, gallery = people
    pattern = r"(?P<id>-?\d+)_c"
    words = "--query", folder / "gallery", "--gallery", folder / "gallery", "--pattern", pattern, "--preprocess", "none"
    assert run("rank", folder / "reid.keras", *words, "--top", "3", "--show", "8", "--out", tmp_path) == 0
    written = json.loads((tmp_path / "ranking.json").read_bytes())
    images, identities, _ = columns(folder / "gallery", gallery, lambda x: x)
    given = (images, identities)
    with pytest.warns(UserWarning, match="have no right match"):
        expected = rank(given, given, embedder, top=3, progress=False)
    names = sorted(gallery)
    for number, one in enumerate(written["rankings"]):
        found = [Path(other["path"]).name for other in one["top"]]
        assert found == [names[place] for place in expected.indices[number]]
        assert names[number] not in found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pattern", "("], "no regular expression"),
        (["--pattern", r"(\d+)"], "must have a group 'id'"),
        (["--pattern", r"(?P<id>[a-z]+)"], "must find numbers"),
        (["--pattern", r"person(?P<id>\d+)"], "in whose name --pattern finds no identity"),
        (["--query", "nowhere"], "--query must be a folder"),
        (["--query", "empty"], "holds no pictures"),
        (["--query", "broken"], "--query must hold pictures. Received: none that could be read"),
        (["--top", "-3"], "whole number >= 0, not '-3'|expected one argument"),
        (["--layer", "gone"], "--layer must name a layer"),
        (["--out", "file"], "--out cannot be written to: Not a folder"),
    ],
)
def test_wrong_words_for_rank(people, tmp_path, capsys, monkeypatch, words, message):
    folder, *_ = people
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0001_c1.jpg").write_bytes(b"broken")
    (tmp_path / "file").touch()
    given = {"--query": folder / "query", "--gallery": folder / "gallery", "--preprocess": "none", "--out": "out"}
    given.update(zip(words[::2], words[1::2], strict=True))
    assert run("rank", folder / "reid.keras", *(part for pair in given.items() for part in pair)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("keras-gradcam: error: ")
    assert re.search(message, line), line
    assert not (tmp_path / "out").exists()


def test_broken_pictures_of_people_are_left_out(people, tmp_path, capsys):
    import shutil

    folder, *_ = people
    shutil.copytree(folder / "gallery", tmp_path / "gallery")
    (tmp_path / "gallery" / "0002_c3s1_000001_00.jpg").write_bytes(b"broken")
    words = "--query", folder / "query", "--gallery", tmp_path / "gallery", "--preprocess", "none", "--show", "0"
    assert run("rank", folder / "reid.keras", *words, "--out", tmp_path / "out") == 1
    assert "1 failed" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "ranking.json").read_bytes())
    assert (written["gallery"], len(written["failures"])) == (8, 1)
    assert not (tmp_path / "out" / "rank_list.png").exists()


# --- report ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """Log folder and report of a finished training."""
    folder = tmp_path_factory.mktemp("training")
    keras.utils.set_random_seed(1)
    model = network()
    model.compile("adam", "sparse_categorical_crossentropy")
    images = np.stack([picture(number, SIZE) for number in range(6)]).astype("float32")
    labels = np.arange(6) % 3
    callback = GuidedGradCAMCallback((images, labels), folder, class_names=["cat", "wild cat", "dog"])
    model.fit(images, labels, epochs=3, verbose=0, callbacks=[callback])
    return folder, callback.report()


def test_the_report_of_a_finished_training(training, capsys):
    folder, expected = training
    for where in (folder, folder / "gradcam"):
        assert run("report", where) == 0
        assert capsys.readouterr().out == expected + "\n"


def test_the_report_of_a_training_that_was_interrupted(training, tmp_path, capsys):
    """Event files up to the report, which comes last, and torn in the middle of the next record."""
    folder, expected = training
    (path,) = (folder / "gradcam").iterdir()
    content, ends = path.read_bytes(), []
    place = 0
    while place < len(content):
        length = int.from_bytes(content[place : place + 8], "little")
        event = Event.FromString(content[place + 12 : place + 12 + length])
        if any(value.tag.startswith(("gradcam_filmstrip", "gradcam/report")) for value in event.summary.value):
            break
        place += length + 16
        ends.append(place)
    (tmp_path / "run" / "gradcam").mkdir(parents=True)
    (tmp_path / "run" / "gradcam" / path.name).write_bytes(content[: place + 9])
    assert run("report", tmp_path) == 0
    head, _, rest = capsys.readouterr().out.partition("\n\n")
    assert head == "The training has not come to its end; this is how far it got."
    assert rest == expected + "\n"


def test_reports_of_several_runs(tmp_path, capsys):
    for name, epochs in (("a", 4), ("b", 6)):
        tab_runs.write_run(tmp_path / name, epochs=epochs)
    assert run("report", tmp_path) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^# (\w+)$", out, re.MULTILINE) == ["a", "b"]
    assert re.findall(r"^(\d) epochs logged", out, re.MULTILINE) == ["4", "6"]
    assert "| 01 dog |" in out


def test_runs_that_hold_little(tmp_path, capsys):
    tab_runs.write_run(tmp_path / "none", epochs=0, start=False)
    assert run("report", tmp_path / "none") == 0
    assert "No epoch was logged." in capsys.readouterr().out
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "events.out.tfevents.1.gradcam").write_bytes(b"\x01\x02nonsense" * 9)
    (tmp_path / "empty").mkdir()
    for name in ("torn", "empty"):
        assert run("report", tmp_path / name) == 2
        assert "no training was logged by GuidedGradCAMCallback" in capsys.readouterr().err
    assert run("report", tmp_path / "gone") == 2
    assert "LOGDIR must be a folder" in capsys.readouterr().err


# --- tensorboard ----------------------------------------------------------------------------------------------------


def test_tensorboard_keeps_every_epoch():
    words = tensorboard.command("logs", ["--port", "0"])
    assert words[1:] == [
        "-m",
        "tensorboard.main",
        "--logdir",
        "logs",
        "--samples_per_plugin",
        "images=1000",
        "--port",
        "0",
    ]


@pytest.mark.parametrize("own", [["--samples_per_plugin", "images=5"], ["--samples_per_plugin=images=5"]])
def test_ones_own_number_of_samples_stays(own):
    assert tensorboard.command("logs", own)[3:] == ["--logdir", "logs", *own]


def test_tensorboard_takes_our_place(tmp_path, monkeypatch):
    if os.name != "posix":
        pytest.skip("POSIX alone can do so")

    class Replaced(BaseException):
        pass

    def replaced(program, words):
        raise Replaced(program, words)

    monkeypatch.setattr(os, "execv", replaced)
    with pytest.raises(Replaced) as now:
        run("tensorboard", tmp_path, "--port", "6007", "--debug")
    assert now.value.args == (sys.executable, tensorboard.command(str(tmp_path), ["--port", "6007"]))


def test_a_folder_that_is_not_there_yet(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "execv", lambda *_: None)
    monkeypatch.setattr(subprocess, "call", lambda words: 7)
    assert run("tensorboard", tmp_path / "later") == 7
    assert "there is no folder" in capsys.readouterr().err
