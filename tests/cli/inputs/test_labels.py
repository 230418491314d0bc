"""Names of classes: files as people have them, and names as people type them."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from keras_gradcam.cli.errors import CommandError
from keras_gradcam.cli.inputs.labels import Labels, read_labels

EXPECTED = {0: "tench", 1: "goldfish", 2: "great white shark"}


@pytest.mark.parametrize(
    "text",
    [
        "tench\ngoldfish\ngreat white shark",
        "\ufefftench\r\ngoldfish \r\n\tgreat white shark\r\n\r\n\n",
        json.dumps(list(EXPECTED.values())),
        json.dumps({name: number for number, name in EXPECTED.items()}),
        json.dumps({str(number): name for number, name in EXPECTED.items()}),
        json.dumps({str(number): [f"n0{number}", name] for number, name in EXPECTED.items()}),
        "  " + json.dumps({"2": "great white shark", "0": "tench", "1": "goldfish"}, indent=2),
    ],
)
def test_every_form(tmp_path, text):
    (tmp_path / "names").write_bytes(text.encode())
    labels = read_labels(str(tmp_path / "names"))
    assert dict(labels.names) == EXPECTED
    labels.check(3)


def test_names_of_some_classes(tmp_path):
    (tmp_path / "names.json").write_text('{"7": "seven"}')
    labels = read_labels(str(tmp_path / "names.json"))
    labels.check(10)
    assert (labels.name(7), labels.name(3)) == ("seven", "class 3")
    with pytest.raises(CommandError, match=r"name the model's 7 classes"):
        labels.check(7)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("form", [json.dumps, "\n".join])
def test_lists_must_name_every_class(tmp_path, form, count):
    (tmp_path / "names").write_text(form(["x"] * count))
    with pytest.raises(CommandError, match=f"must name the model's 3 classes, 0 to 2. Received: {count} names"):
        read_labels(str(tmp_path / "names")).check(3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"cat\n\ndog\n", "line 2 of which is empty"),
        (b"[]", "it is empty"),
        (b"{}", "it is empty"),
        (b'["cat", "dog"', "looks like JSON, but"),
        (b'["cat", 3]', "names no class"),
        (b'["cat", ""]', "names no class"),
        (b'{"cat": -1}', "names no class"),
        (b'{"cat": 1, "dog": 1}', "names no class"),
        (b'{"cat": "dog"}', "invalid literal"),
        (b'{"0": ["a", "b", "c"]}', "names no class"),
        (b'{"cat": true}', "invalid literal|names no class"),
        (b"\xff\xfe\x00c", "text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "text in UTF-8"),
    ],
)
def test_odd_files(tmp_path, content, message):
    (tmp_path / "names").write_bytes(content)
    with pytest.raises(CommandError, match=message) as error:
        read_labels(str(tmp_path / "names"))
    assert "\n" not in str(error.value)


def test_missing_files(tmp_path):
    with pytest.raises(CommandError, match=r"No such file or directory: '.*gone'"):
        read_labels(str(tmp_path / "gone"))
    with pytest.raises(CommandError, match="is no regular file"):
        read_labels(str(tmp_path))


def test_a_failed_download_is_one_line(monkeypatch):
    def offline(*_args, **_options):
        raise Exception("URL fetch failure on https://...: None -- [Errno -2]\nName or service not known")

    monkeypatch.setattr(keras.applications.imagenet_utils, "decode_predictions", offline)
    with pytest.raises(CommandError, match=r"could not be downloaded: URL fetch .* not known") as error:
        read_labels("imagenet")
    assert "\n" not in str(error.value)


def test_imagenet(monkeypatch):
    def decoded(predictions, top):
        assert (predictions == np.eye(1000)).all()
        return [[("n0", f"name {number}", 1.0)] for number in range(1000)]

    monkeypatch.setattr(keras.applications.imagenet_utils, "decode_predictions", decoded)
    assert read_labels("imagenet").name(999) == "name 999"


LABELS = Labels({0: "crane", 1: "tabby, tabby cat", 2: "Egyptian_cat", 3: "giant panda", 4: "lesser panda", 5: "Crane"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4", 4),
        ("tabby", 1),
        ("TABBY, tabby CAT", 1),
        ("egyptian cat", 2),
        ("egyptian_cat", 2),
        ("giant", 3),
        ("lesser", 4),
    ],
)
def test_classes_are_found(text, expected):
    assert LABELS.find(text, 6) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("6", "must be one of the model's classes. Received: 6. Candidates: 0 to 5"),
        ("crane", "'crane' fits several classes. Candidates: 0 'crane', 5 'Crane'"),
        ("panda", "fits several classes. Candidates: 3 'giant panda', 4 'lesser panda'"),
        ("gaint panda", "is no class of the model. Candidates: 3 'giant panda'"),
        ("zebra", "is no class of the model. Candidates: 0 'crane', .*"),
        ("-1", "is no class of the model"),
        ("", "fits several classes"),
    ],
)
def test_classes_that_are_not_found(text, message):
    with pytest.raises(CommandError, match=message):
        LABELS.find(text, 6)


def test_names_need_labels():
    with pytest.raises(CommandError, match=r"the classes have none. Candidates: a number, or --labels FILE"):
        Labels().find("cat", 3)
