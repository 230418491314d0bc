"""One process of a distributed training writes."""

from __future__ import annotations

import json

import pytest

from keras_gradcam.engine.tensorflow.processes import is_first_process


@pytest.mark.parametrize(
    ("kind", "index", "cluster", "first"),
    [
        ("chief", 0, ["chief", "worker"], True),
        ("worker", 0, ["chief", "worker"], False),
        ("worker", 0, ["worker"], True),
        ("worker", 1, ["worker"], False),
        ("master", 0, ["master", "worker"], True),
        ("ps", 0, ["worker", "ps"], False),
        ("evaluator", 0, ["chief"], False),
    ],
)
def test_the_chief_or_else_the_first_worker_writes(monkeypatch, kind, index, cluster, first):
    config = {"cluster": {name: ["host:1"] for name in cluster}, "task": {"type": kind, "index": index}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert is_first_process() is first


@pytest.mark.parametrize("config", ["{}", "[]", "not json", '{"task": 3}', '{"task": {"index": "x"}}'])
def test_a_single_process_writes(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    assert is_first_process()
