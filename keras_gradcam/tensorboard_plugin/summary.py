"""Encodes the tab's data as TensorBoard summaries, with NumPy and TensorBoard's protocol buffers, without TensorFlow.

Each function returns one ``Summary.Value``; the caller puts it into an ``Event`` with a step and a wall time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_BLOB_SEQUENCE, DATA_CLASS_TENSOR, Summary, SummaryMetadata
from tensorboard.util.tensor_util import make_tensor_proto

from . import metadata
from .metadata import RunInfo


def run_summary(info: RunInfo) -> Any:
    """Returns the run's description; written at step 0 at every start of a training, the latest is shown."""
    return _value(metadata.RUN, np.array(info.to_json().encode(), dtype=object), DATA_CLASS_TENSOR)


def pictures_summary(encoded: Sequence[bytes]) -> Any:
    """Returns the probes' pictures, PNG or JPEG bytes up to 256 pixels a side; written at step 0, at every start."""
    return _pictures(metadata.PICTURES, encoded)


def partners_summary(encoded: Sequence[bytes]) -> Any:
    """Returns the pictures of the partners, one per probe; see :func:`pictures_summary`."""
    return _pictures(metadata.PARTNERS, encoded)


def maps_summary(maps: np.ndarray, start: bool = False) -> Any:
    """Returns the raw maps of all probes at one epoch.

    Args:
        maps: float16 or float32 (N, h, w), on the grid of the layer; NaN and infinity are kept.
        start: Whether they are those of the model before its first epoch.

    Returns:
        A ``Summary.Value``.

    Raises:
        ValueError: If the maps have another number of axes or another data type.

    Example:
        >>> import numpy as np
        >>> maps_summary(np.ones((2, 7, 7), np.float16)).tag
        'gradcam_tab/maps'
    """
    return _maps(metadata.START_MAPS if start else metadata.MAPS, maps)


def partner_maps_summary(maps: np.ndarray, start: bool = False) -> Any:
    """Returns the raw maps of all partners at one epoch; their grid may be another. See :func:`maps_summary`.

    Example:
        >>> import numpy as np
        >>> partner_maps_summary(np.ones((2, 6, 3), np.float16)).tag
        'gradcam_tab/partner_maps'
    """
    return _maps(metadata.START_PARTNER_MAPS if start else metadata.PARTNER_MAPS, maps)


def numbers_summary(numbers: np.ndarray, start: bool = False) -> Any:
    """Returns the numbers of all probes at one epoch.

    Args:
        numbers: (N, columns) in the order of the run's ``columns``, NaN where unknown.
        start: Whether they are those of the model before its first epoch.

    Raises:
        ValueError: If the numbers have another number of axes.
    """
    numbers = np.asarray(numbers, dtype=np.float32)
    if numbers.ndim != 2:
        raise ValueError(f"`numbers` must be (N, columns), one row per probe. Received: shape {numbers.shape}.")
    return _value(metadata.START_NUMBERS if start else metadata.NUMBERS, numbers, DATA_CLASS_TENSOR)


def guided_summary(encoded: Sequence[bytes], start: bool = False) -> Any:
    """Returns guided Grad-CAM of all probes at one epoch, PNG or JPEG bytes; read only when somebody looks."""
    tag = metadata.START_GUIDED if start else metadata.GUIDED
    return _value(tag, _bytes(encoded), DATA_CLASS_BLOB_SEQUENCE)


def session_start(step: int, wall_time: float) -> Any:
    """Returns the event that opens every event file of the tab.

    It tells TensorBoard's slow loader to drop what an earlier, killed training wrote at this step and later. The fast
    loader and the tab drop it by themselves, but the slow loader would go on showing the old guided pictures.

    Args:
        step: The first epoch of this training, ``initial_epoch``.
        wall_time: Now, in seconds.
    """
    return Event(wall_time=wall_time, step=step, session_log=SessionLog(status=SessionLog.START))


def _pictures(tag: str, encoded: Sequence[bytes]) -> Any:
    # A tensor rather than a blob sequence: one read returns all pictures, with the wall time that tells the latest.
    return _value(tag, _bytes(encoded), DATA_CLASS_TENSOR)


def _maps(tag: str, maps: np.ndarray) -> Any:
    maps = np.asarray(maps)
    if maps.ndim != 3:
        raise ValueError(f"`maps` must be (N, h, w), one map per probe. Received: shape {maps.shape}.")
    if maps.dtype not in (np.float16, np.float32):
        raise ValueError(f"`maps` must be float16 or float32. Received: {maps.dtype}.")
    return _value(tag, maps, DATA_CLASS_TENSOR)


def _bytes(encoded: Sequence[bytes]) -> np.ndarray:
    # Not np.array(encoded): that pads to one length and drops zero bytes at the end.
    array = np.empty(len(encoded), dtype=object)
    array[:] = [bytes(picture) for picture in encoded]
    return array


def _value(tag: str, array: np.ndarray, data_class: int) -> Any:
    return Summary.Value(
        tag=tag,
        tensor=make_tensor_proto(array),
        metadata=SummaryMetadata(
            plugin_data=SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME), data_class=data_class
        ),
    )
