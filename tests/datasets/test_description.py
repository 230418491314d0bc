"""What a folder of results depends on: written once, compared by every run after."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_models import SIZE, network

from keras_gradcam import Class, Similarity
from keras_gradcam.datasets import ExplainBatch
from keras_gradcam.datasets.description import RUN, agree_on, prepare, read_description
from keras_gradcam.errors import ArgumentError


def description(model, parts=1, names=None, **options):
    return prepare(ExplainBatch(model, batch_size=2, **options), parts, names or {}).description


def test_the_same_run_agrees_and_its_description_is_read_back(tmp_path, model_file):
    first = description(model_file, names={0: "cat"})
    agree_on(tmp_path, first)
    agree_on(tmp_path, description(model_file, names={0: "cat"}))
    assert read_description(tmp_path) == json.loads(json.dumps(first))
    assert read_description(tmp_path)["class_names"] == {"0": "cat"}


def test_the_place_of_the_model_and_names_of_classes_do_not_count(tmp_path, model_file):
    agree_on(tmp_path, description(model_file))
    copy = tmp_path / "copy.keras"
    copy.write_bytes(Path(model_file).read_bytes())
    agree_on(tmp_path, description(str(copy), names={1: "dog"}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": Class(1)}, r"target: Class\(1\), not Class\(\)"),
        ({"target": "label"}, "target: label, not"),
        ({"layer": "first"}, "layer: first, not last"),
        ({"methods": ["layercam"]}, "methods: "),
        ({"preprocess": "1/255,0"}, "preprocess: 1/255,0, not none"),
        ({"embedding": True}, "embedding: True, not False"),
        ({"parts": 3}, "shards: 3, not 1"),
    ],
)
def test_other_settings_are_refused_in_words(tmp_path, model_file, options, message):
    agree_on(tmp_path, description(model_file, **options))
    with pytest.raises(ArgumentError, match=rf"`out` must hold no results of something else.*{message}"):
        agree_on(tmp_path, description(model_file))


def test_another_model_is_refused(tmp_path):
    agree_on(tmp_path, description(network(seed=0)))
    with pytest.raises(ArgumentError, match="sha256"):
        agree_on(tmp_path, description(network(seed=1)))


def test_references_of_a_target_count():
    model, rng = network(activation="linear"), np.random.default_rng(0)
    first, second = (description(model, target=Similarity(rng.random((1, *SIZE, 3)))) for _ in range(2))
    assert first["settings"]["target"] == second["settings"]["target"]
    assert first["settings"]["target_sha256"] != second["settings"]["target_sha256"]


def test_warnings_are_put_aside_for_the_driver(model_file):
    assert prepare(ExplainBatch(model_file), 1, {}).warnings == []
    import keras

    bare = keras.Sequential([keras.Input((*SIZE, 3)), *network().layers[1:]])
    (text,) = prepare(ExplainBatch(bare), 1, {}).warnings
    assert "values from 0 to 255" in text


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"[" * 100_000, b'{"plan": 3}', b"\xff\x00"])
def test_a_damaged_description_is_refused(tmp_path, content):
    (tmp_path / RUN).write_bytes(content)
    with pytest.raises(ArgumentError, match=f"have a {RUN} that can be read"):
        read_description(tmp_path)


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="be a folder that explain_dataset wrote to"):
        read_description(tmp_path)
