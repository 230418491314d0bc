"""What a writer must be."""

from __future__ import annotations

import numpy as np
import pytest
from log_entries import RUN, entry

from keras_gradcam.errors import ArgumentError
from keras_gradcam.training.history import Recorder
from keras_gradcam.training.writers.base import METHODS, Summary, check_writers
from keras_gradcam.training.writers.folder import FolderWriter
from keras_gradcam.training.writers.tensorboard import TensorBoardWriter


def writer_without(missing):
    return type("Tracker", (), {name: lambda self, *_: None for name in METHODS if name != missing})


def test_any_object_with_the_four_methods_is_a_writer(tmp_path):
    writers = [writer_without(None)(), FolderWriter(str(tmp_path)), TensorBoardWriter(str(tmp_path))]
    assert check_writers(writers) == writers
    assert check_writers(()) == []


@pytest.mark.parametrize("missing", METHODS)
def test_a_missing_method_is_named(missing):
    with pytest.raises(ArgumentError, match=rf"`writers` must hold .*Received: Tracker without {missing}\."):
        check_writers([writer_without(None)(), writer_without(missing)()])


def test_a_class_is_no_writer():
    with pytest.raises(ArgumentError, match=r"Received: the class Tracker\."):
        check_writers([writer_without(None)])


def test_a_writer_alone_is_no_list_of_them():
    with pytest.raises(ArgumentError, match=r"`writers` must be a list of writers\. Received: Tracker\."):
        check_writers(writer_without(None)())


def test_what_writers_get_says_where_it_belongs():
    assert (entry(None).record.title, entry(None).record.step) == ("start", 0)
    assert (entry(3).record.title, entry(3).record.step) == ("epoch 3", 3)
    assert len(RUN.pictures) == len(RUN.info.probes)
    recorder = Recorder()
    for epoch in (2, 5):
        recorder.add(epoch, None, {"score": np.ones(1)})
    assert Summary(recorder.history(), (), "").step == 5
