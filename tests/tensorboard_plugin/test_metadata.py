"""The contract: what is written is read, and what cannot be read is said."""

import ast
import json
import sys
from pathlib import Path

import pytest

from keras_gradcam.tensorboard_plugin import columns, metadata
from keras_gradcam.tensorboard_plugin.columns import COLUMNS
from keras_gradcam.tensorboard_plugin.metadata import ExplainedInfo, ProbeInfo, RunInfo

INFO = RunInfo(
    input_size=(32, 48),
    probes=(ProbeInfo(3, (1.0, 2.0, 10.5, 20.0)), ProbeInfo()),
    explained=ExplainedInfo("conv", "Class()", ("distance", -0.5), ("gradcam",)),
    label="identity",
    colormap="viridis",
    scale="frame",
    class_names={3: '<img src=x onerror="alert(1)">', 11: "كلب"},
    every=5,
)


def test_round_trip():
    assert RunInfo.from_json(INFO.to_json()) == INFO
    assert RunInfo.from_json(INFO.to_json().encode()) == INFO


def test_unknown_keys_and_missing_optional_ones_are_fine():
    stored = {"version": 1, "input_size": [8, 8], "probes": [{}], "later": "addition"}
    assert RunInfo.from_json(json.dumps(stored)) == RunInfo((8, 8), (ProbeInfo(),))
    assert RunInfo.from_json(json.dumps(stored)).columns == COLUMNS


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": [8]},
        {"input_size": [0, 8]},
        {"input_size": None},
        {"probes": 3},
        {"probes": [3]},
        {"probes": [{"region": [1, 2, 3]}]},
        {"probes": [{"region": [float("nan"), 0, 1, 1]}]},
        {"probes": [{"label": "cat"}]},
        {"probes": [{"label": float("inf")}]},
        {"class_names": {"cat": "cat"}},
        {"class_names": [1]},
        {"version": "new"},
        {"quantity": "distance"},
        {"quantity": ["distance", "far"]},
        {"quantity": ["distance", float("nan")]},
    ],
)
def test_broken_descriptions_are_refused(change):
    stored = {**json.loads(INFO.to_json()), **change}
    with pytest.raises(ValueError, match="cannot be read"):
        RunInfo.from_json(json.dumps(stored))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", b"\xff\xfe"])
def test_what_is_no_description_is_refused(text):
    with pytest.raises(ValueError, match="cannot be read"):
        RunInfo.from_json(text)


def test_a_later_version_is_named():
    stored = {**json.loads(INFO.to_json()), "version": metadata.VERSION + 1}
    with pytest.raises(ValueError, match="later version"):
        RunInfo.from_json(json.dumps(stored))


def test_our_tags_are_nobody_elses():
    tags = [value for value in vars(metadata).values() if str(value).startswith("gradcam_tab/")]
    assert len(set(tags)) == 11
    shared = [tag(3) for tag in (metadata.probe_tag, metadata.query_tag, metadata.filmstrip_tag)]
    shared += [metadata.REPORT, metadata.overview_tag(), metadata.picture_tag("filters/top")]
    shared += [metadata.value_tag("focus", 3), metadata.mean_tag("focus"), metadata.missing_tag("focus")]
    shared += [tag(start=True) for tag in (metadata.overview_tag, lambda start: metadata.probe_tag(3, start))]
    assert len(set(shared)) == len(shared)
    assert not any(tag.startswith("gradcam_tab/") for tag in shared)


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("name", ["similarity_gap", "mean_ap", "rank_1"])
def test_the_name_of_a_total_is_read_out_of_its_tag(name, start):
    assert metadata.total_name(metadata.total_tag(name, start)) == name


def test_nothing_but_the_standard_library_is_imported():
    imported = set()
    for module in (metadata, columns):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(f".{node.module}" if node.level else node.module.split(".")[0])
    assert imported <= {*sys.stdlib_module_names, ".columns"}
