"""`keras-gradcam rank`: the same ranking and drawing as in Python."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from cli_models import (
    SIZE,
    png,
    run,
    saved,
    taken,
)
from keras import layers as L  # noqa: N812
from models import randomised
from PIL import Image

from keras_gradcam import Explainer, SelfSimilarity
from keras_gradcam.datasets import explain_dataset
from keras_gradcam.pictures.preprocessing import read_preprocessing
from keras_gradcam.reid import rank, rank_figure


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
        (["--pattern", "("], "--pattern must be a regular expression"),
        (["--pattern", r"(\d+)"], "must have a group 'id'"),
        (["--pattern", r"(?P<id>[a-z]+)"], "must find numbers"),
        (["--pattern", r"person(?P<id>\d+)"], "whose names tell an identity by the pattern"),
        (
            ["--query", "other", "--pattern", r"(?P<id>\d+)(_c(?P<camera>\d+))?"],
            "Received: cameras of the gallery alone",
        ),
        (["--query", "nowhere"], "--query must be a folder"),
        (["--query", "empty"], "--query must hold pictures. Received: 'empty', which holds none"),
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
    png(tmp_path / "other" / "0001.png")
    given = {"--query": folder / "query", "--gallery": folder / "gallery", "--preprocess": "none", "--out": "out"}
    given.update(zip(words[::2], words[1::2], strict=True))
    assert run("rank", folder / "reid.keras", *(part for pair in given.items() for part in pair)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("keras-gradcam: error: ")
    assert re.search(message, line), line
    assert not (tmp_path / "out").exists()


def test_broken_pictures_of_people_are_left_out(people, tmp_path, capsys):
    folder, *_ = people
    shutil.copytree(folder / "gallery", tmp_path / "gallery")
    (tmp_path / "gallery" / "0002_c3s1_000001_00.jpg").write_bytes(b"broken")
    words = "--query", folder / "query", "--gallery", tmp_path / "gallery", "--preprocess", "none", "--show", "0"
    assert run("rank", folder / "reid.keras", *words, "--out", tmp_path / "out") == 1
    assert "1 failed" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "ranking.json").read_bytes())
    assert (written["gallery"], len(written["failures"])) == (8, 1)
    assert not (tmp_path / "out" / "rank_list.png").exists()


def test_rows_with_embeddings_are_ranked_as_their_pictures(people, tmp_path):
    folder, *_ = people
    for side in ("query", "gallery"):
        explain_dataset(
            str(folder / side), str(folder / "reid.keras"), tmp_path / side,
            target=SelfSimilarity(), embedding=True, preprocess="1/127.5,-1", progress=False,
        )  # fmt: skip
    words = "rank", folder / "reid.keras", "--preprocess", "1/127.5,-1", "--top", "4", "--show", "2"
    assert run(*words, "--query", folder / "query", "--gallery", folder / "gallery", "--out", tmp_path / "a") == 0
    assert run(*words, "--query", tmp_path / "query", "--gallery", tmp_path / "gallery", "--out", tmp_path / "b") == 0
    first, second = (json.loads((tmp_path / name / "ranking.json").read_bytes()) for name in "ab")
    assert [entry["path"] for entry in second["rankings"]] != []
    by_path = {entry["path"]: entry for entry in second["rankings"]}
    for entry in first["rankings"]:
        other = by_path[entry["path"]]
        assert [found["path"] for found in entry["top"]] == [found["path"] for found in other["top"]]
        assert entry["average_precision"] == other["average_precision"]
    assert second["mean_ap"] == pytest.approx(first["mean_ap"])
    assert (tmp_path / "b" / "rank_list.png").exists()
