"""Files by URL through TensorFlow, tried on its file system in memory."""

from __future__ import annotations

import pytest
import tensorflow as tf

from keras_gradcam.engine.tensorflow.remote_files import TensorFlowStorage


def test_schemes():
    assert TensorFlowStorage.opens("gs")
    assert TensorFlowStorage.opens("ram")
    assert not TensorFlowStorage.opens("nowhere")


def test_a_file_can_be_read_after_each_flush_and_removed():
    storage = TensorFlowStorage()
    storage.make_folder("ram://remote_files/run1")
    path = storage.join("ram://remote_files/run1/", "events")
    assert path == "ram://remote_files/run1/events"
    file = storage.create(path)
    for content, expected in ((b"one \x00", b"one \x00"), (b"two", b"one \x00two")):
        file.write(content)
        file.flush()
        with tf.io.gfile.GFile(path, "rb") as opened:
            assert opened.read() == expected
    file.close()
    storage.remove(path)
    assert not tf.io.gfile.exists(path)


def test_what_goes_wrong_is_an_error_of_the_operating_system(tmp_path):
    """Callers need no TensorFlow to catch it."""
    storage = TensorFlowStorage()
    with pytest.raises(OSError, match="NotFoundError"):
        storage.remove("ram://remote_files/nothing")
    with pytest.raises(OSError, match=r"NotFoundError.*missing"):
        storage.create(str(tmp_path / "missing" / "events"))
