"""Written to event files, read back with TensorBoard's own readers."""

import numpy as np
import pytest
import tab_runs
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.compat.proto import summary_pb2
from tensorboard.util.tensor_util import make_ndarray

from keras_gradcam.tensorboard_plugin import metadata, summary
from keras_gradcam.tensorboard_plugin.columns import COLUMNS
from keras_gradcam.tensorboard_plugin.metadata import RunInfo


def written(tmp_path, *values):
    """The values as they come back from a file."""
    writer = tab_runs.RunWriter(tmp_path)
    writer.add(3, *values)
    writer.close()
    events = list(event_file_loader.EventFileLoader(str(writer.path)).Load())
    return [value for event in events for value in event.summary.value]


@pytest.mark.parametrize(
    ("write", "start", "tag"),
    [
        (summary.maps_summary, False, "gradcam_tab/maps"),
        (summary.maps_summary, True, "gradcam_tab/start_maps"),
        (summary.partner_maps_summary, False, "gradcam_tab/partner_maps"),
        (summary.partner_maps_summary, True, "gradcam_tab/start_partner_maps"),
    ],
)
def test_maps_keep_their_values(tmp_path, rng, write, start, tag):
    for dtype in (np.float16, np.float32):
        maps = rng.uniform(0, 5, (3, 7, 5)).astype(dtype)
        (value,) = written(tmp_path, write(maps, start=start))
        read = make_ndarray(value.tensor)
        assert value.tag == tag
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, maps)


def test_what_is_not_finite_stays_so(tmp_path):
    maps = np.zeros((3, 2, 2), np.float16)
    maps[1, 0, 0], maps[2, 1, 1] = np.nan, np.inf
    (value,) = written(tmp_path, summary.maps_summary(maps))
    np.testing.assert_array_equal(make_ndarray(value.tensor), maps)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (0, 7, 7)])
def test_small_batches(tmp_path, shape):
    (value,) = written(tmp_path, summary.maps_summary(np.full(shape, 0.5, np.float16)))
    np.testing.assert_array_equal(make_ndarray(value.tensor), np.full(shape, 0.5))


def test_numbers_keep_their_values_and_gaps(tmp_path, rng):
    numbers = rng.normal(size=(4, len(COLUMNS))).astype(np.float32)
    numbers[1, 3] = np.nan
    (value,) = written(tmp_path, summary.numbers_summary(numbers))
    np.testing.assert_array_equal(make_ndarray(value.tensor), numbers)
    assert value.metadata.data_class == summary_pb2.DATA_CLASS_TENSOR


def test_bytes_are_kept_to_the_last_zero(tmp_path):
    encoded = [b"\x89PNG\x00\x00", b"", b"\x00", b"longer than the others"]
    values = written(
        tmp_path,
        summary.pictures_summary(encoded),
        summary.partners_summary(encoded),
        summary.guided_summary(encoded),
        summary.guided_summary(encoded, start=True),
    )
    for value in values:
        assert list(make_ndarray(value.tensor)) == encoded
    tags = [value.tag.split("/")[1] for value in values]
    assert tags == ["pictures", "partners", "guided", "start_guided"]
    assert [value.metadata.data_class for value in values] == [
        *[summary_pb2.DATA_CLASS_TENSOR] * 2, *[summary_pb2.DATA_CLASS_BLOB_SEQUENCE] * 2
    ]  # fmt: skip


def test_the_description_comes_back(tmp_path):
    info = tab_runs.run_info(3, regions=True)
    (value,) = written(tmp_path, summary.run_summary(info))
    assert RunInfo.from_json(make_ndarray(value.tensor).item()) == info


def test_every_value_is_ours(tmp_path):
    values = written(
        tmp_path, summary.run_summary(tab_runs.run_info(1)), summary.maps_summary(np.ones((1, 2, 2), np.float32)),
        summary.numbers_summary(np.ones((1, 2))), summary.pictures_summary([b"a"]), summary.partners_summary([b"a"]),
        summary.partner_maps_summary(np.ones((1, 2, 2), np.float32)),
    )  # fmt: skip
    assert {value.metadata.plugin_data.plugin_name for value in values} == {metadata.PLUGIN_NAME}
    assert all(value.metadata.data_class != summary_pb2.DATA_CLASS_UNKNOWN for value in values)


@pytest.mark.parametrize("write", [summary.maps_summary, summary.partner_maps_summary])
@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint8, object])
def test_maps_of_another_precision_are_refused(write, dtype):
    with pytest.raises(ValueError, match=f"must be float16 or float32.*{np.dtype(dtype)}"):
        write(np.ones((1, 2, 2), dtype))


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(N, h, w\).*\(2, 2\)"):
        summary.maps_summary(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"\(N, h, w\).*\(2, 2\)"):
        summary.partner_maps_summary(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"\(N, columns\).*\(3,\)"):
        summary.numbers_summary(np.ones(3))
