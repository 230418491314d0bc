"""Records in TensorFlow's own framing, against TensorFlow, TensorBoard and published checksums."""

from __future__ import annotations

import io

import google_crc32c
import numpy as np
import pytest
from backends import tensorflow_only
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.util.tensor_util import make_ndarray

from keras_gradcam.tensorboard_plugin import summary
from keras_gradcam.training.writers.records import RecordWriter, masked_crc32c, read_records


@pytest.fixture
def records(rng):
    return [b"", b"a", rng.bytes(7), rng.bytes(8), rng.bytes(4097), bytes(300_000)]


def written(records):
    file = io.BytesIO()
    writer = RecordWriter(file)
    for record in records:
        writer.write(record)
    writer.flush()
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
    ids=["check", "zeros", "ones", "ascending", "descending"],
)
def test_checksums_of_the_standard(data, crc):
    """RFC 3720, appendix B.4; unmasked as TensorFlow's crc32c.h does it."""
    rotated = (masked_crc32c(data) - 0xA282EAD8) & 0xFFFFFFFF
    assert (rotated >> 17 | rotated << 15) & 0xFFFFFFFF == crc


@tensorflow_only
def test_files_are_those_that_tensorflow_writes(records, tmp_path):
    import tensorflow as tf

    path = str(tmp_path / "theirs")
    with tf.io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    assert written(records) == (tmp_path / "theirs").read_bytes()


@tensorflow_only
def test_tensorflow_reads_them(records, tmp_path):
    import tensorflow as tf

    path = tmp_path / "ours"
    path.write_bytes(written(records))
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(path))] == records


def test_tensorboard_reads_events(tmp_path, rng):
    maps = rng.random((2, 7, 7)).astype(np.float16)
    events = [Event(wall_time=1, file_version="brain.Event:2")]
    events += [Event(wall_time=2, step=3, summary=Summary(value=[summary.maps_summary(maps)]))]
    path = tmp_path / "events.out.tfevents.1.host"
    path.write_bytes(written([event.SerializeToString() for event in events]))
    version, logged = EventFileLoader(str(path)).Load()
    assert version.file_version == "brain.Event:2"
    assert (logged.step, logged.summary.value[0].tag) == (3, "gradcam_tab/maps")
    np.testing.assert_array_equal(make_ndarray(logged.summary.value[0].tensor), maps)


def test_what_is_written_is_read_back(records, tmp_path):
    path = tmp_path / "ours"
    path.write_bytes(written(records))
    assert list(read_records(path)) == records


@pytest.mark.parametrize("lost", [1, 4, 5, 1000, 300_003, 300_009, 300_015])
def test_what_is_torn_is_read_to_where_it_was_torn(records, tmp_path, lost):
    path = tmp_path / "torn"
    path.write_bytes(written(records)[:-lost])
    assert list(read_records(path)) == records[:-1]


@pytest.mark.parametrize("place", [0, 9, 13, -1])
def test_what_is_damaged_is_read_to_where_it_is_damaged(tmp_path, place):
    path = tmp_path / "damaged"
    content = bytearray(written([b"first", b"second"]))
    content[place] ^= 1
    path.write_bytes(bytes(content))
    assert list(read_records(path)) == ([] if place >= 0 else [b"first"])


def test_a_length_that_no_file_has_is_not_believed(tmp_path):
    length = (1 << 62).to_bytes(8, "little")
    path = tmp_path / "crafted"
    path.write_bytes(length + masked_crc32c(length).to_bytes(4, "little") + b"few bytes")
    assert list(read_records(path)) == []


@tensorflow_only
def test_what_is_torn_ends_for_tensorflow_where_it_was_torn(records, tmp_path):
    import tensorflow as tf

    path = tmp_path / "torn"
    path.write_bytes(written(records)[:-1000])
    dataset = iter(tf.data.TFRecordDataset(str(path)))
    assert [next(dataset).numpy() for _ in records[:-1]] == records[:-1]
    with pytest.raises(tf.errors.DataLossError):
        next(dataset)


def test_checksums_are_computed_by_compiled_code():
    """Python alone computes them at 2.5 MB/s; the panels of an epoch would hold up the training."""
    assert google_crc32c.implementation in ("c", "cext")
