"""Pictures in batches: read ahead, broken ones left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cli_models import (
    SIZE,
    png,
    taken,
)

from keras_gradcam.cli import console
from keras_gradcam.cli.inputs import streams
from keras_gradcam.cli.inputs.streams import PictureStream
from keras_gradcam.pictures.preprocessing import NONE, read_preprocessing
from keras_gradcam.pictures.spec import PictureSpec


def test_broken_pictures_are_left_out_of_their_batch(tmp_path, capsys):
    paths = [png(tmp_path / f"p{number}.png", number) for number in range(5)]
    Path(paths[1]).write_bytes(b"broken")
    for path in paths[2:4]:
        Path(path).write_bytes(b"")
    stream = PictureStream(paths, PictureSpec(SIZE, 3, NONE), 2, console.Progress(5, shown=False))
    batches = list(stream)
    assert [batch.shape for batch in batches] == [(1, *SIZE, 3), (1, *SIZE, 3)]
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate([taken(paths[0]), taken(paths[4])]))
    assert stream.read == [paths[0], paths[4]]
    assert list(stream.failures) == paths[1:4]
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_stream_is_prepared_as_the_model_takes_it(tmp_path):
    path = png(tmp_path / "p.png")
    spec = PictureSpec(SIZE, 3, read_preprocessing("1/127.5,-1"))
    (batch,) = PictureStream([path], spec, 2, console.Progress(1, shown=False))
    np.testing.assert_allclose(batch, taken(path) / 127.5 - 1, atol=1e-6)


def test_a_path_is_shown_from_here_on_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert streams.shown_path(str(tmp_path / "a.png")) == "a.png"
    assert streams.shown_path("/a") == "/a"
    assert streams.shown_path("/a\n\x1b") == "/a\ufffd\ufffd"
