"""Batches out of any data set: the one reader that probes, rankings, galleries and top activations share."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from ..engine.base import Structure
from ..errors import ArgumentError, as_numpy

#: Which part of a sample is meant: a key of a dict, or a function of the sample. None where samples are tuples.
Selector = Union[str, Callable[[Any], Any], None]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples of a data set.

    Attributes:
        images: What the model takes, N samples: an array, or a list or dict of arrays for several inputs.
        labels: (N, ...), or None; a list or dict of arrays for several outputs.
        extra: (N, ...), what comes third: the cameras of a gallery, the weights of training samples; or None.
    """

    images: Structure
    labels: Structure = None
    extra: Structure = None

    def __len__(self) -> int:
        import keras

        return len(keras.tree.flatten(self.images)[0])

    def __getitem__(self, rows: slice | np.ndarray) -> Batch:
        return _map_batch(lambda array: array[rows], self)


def read_batches(
    data: Any,
    batch_size: int | None = None,
    *,
    name: str = "images",
    image: Selector = None,
    label: Selector = None,
    extra: Selector = None,
    endless: bool = False,
) -> Iterator[Batch]:
    """Reads any data set once, some samples at a time, and holds no more than these in memory.

    Whether a data set gives samples or batches of them is told by the data set itself where it can (a PyDataset, a
    DataLoader, a ``tf.data.Dataset`` with an open batch size), by the labels, or else by the number of axes: what has
    four is a batch of pictures, what has fewer is one sample.

    Args:
        data: An array of pictures (a memory map stays on disk), or a list or dict of arrays for several inputs;
            ``(images, labels)`` or ``(images, labels, extra)``; a ``tf.data.Dataset``, a ``keras.utils.PyDataset``, a
            ``torch.utils.data.DataLoader``, or any list or iterable of pictures, of batches, or of either with labels.
        batch_size: How many samples each batch has, the last one perhaps fewer; by default as many as the data set
            gives at a time.
        name: The argument that errors are about.
        image: Where samples are dicts, as those of ``tensorflow_datasets``: the key of the pictures, or a function
            that makes what the model takes out of a sample.
        label: The same for labels.
        extra: The same for what comes third.
        endless: Whether a data set that repeats for ever is allowed.

    Yields:
        Batches of NumPy arrays.

    Raises:
        ArgumentError: If it is none of these, holds nothing, has no end, or pictures differ in shape.

    Example:
        >>> import numpy as np
        >>> [len(batch) for batch in read_batches(np.zeros((5, 8, 8, 3)), 2)]
        [2, 2, 1]
        >>> samples = [{"picture": np.zeros((8, 8, 3)), "class": 4}, {"picture": np.ones((8, 8, 3)), "class": 2}]
        >>> [batch.labels.tolist() for batch in read_batches(samples, 2, image="picture", label="class")]
        [[4, 2]]
    """
    selectors = (image, label, extra)
    if image is None and (label is not None or extra is not None):
        beside = "label" if label is not None else "extra"
        raise ArgumentError("image", f"say what the pictures are, beside `{beside}`", "None", ["a key", "a function"])
    if not endless and _is_endless(data):
        raise ArgumentError(
            name,
            "come to an end",
            "a data set that repeats for ever",
            ["the data set before `.repeat()`", "`.take(n)`"],
        )
    if _is_arrays(data):
        return _slices(name, _split(name, data, selectors), batch_size)
    if isinstance(data, (str, bytes)) or not (isinstance(data, Iterable) or hasattr(data, "__getitem__")):
        raise ArgumentError(
            name,
            "hold pictures",
            type(data).__name__,
            ["an array (N, H, W, C)", "a tf.data.Dataset", "a PyDataset", "a DataLoader", "an iterable of batches"],
        )
    return _rebatched(name, _stream(name, data, selectors), batch_size)


def join_batches(batches: Sequence[Batch]) -> Batch:
    """Concatenates batches, sample by sample."""
    import keras

    def joined(parts: Sequence[Structure]) -> Structure:
        if any(part is None for part in parts):
            return None
        return keras.tree.map_structure(lambda *leaves: np.concatenate(leaves), *parts)

    if len(batches) == 1:
        return batches[0]
    return Batch(*(joined([getattr(batch, name) for batch in batches]) for name in ("images", "labels", "extra")))


# --- kinds of data sets -----------------------------------------------------------------------------------------------


def _is_arrays(data: Any) -> bool:
    """Returns whether all samples are there as arrays, and not to be read one by one or batch by batch."""
    if hasattr(data, "element_spec") or _is_torch(data):
        return False
    if isinstance(data, list) and data:
        # A list of pictures or of samples is read one by one; a list of batches is what a model with several inputs
        # takes.
        return not all(isinstance(sample, (tuple, dict)) or np.ndim(sample) == 3 for sample in data)
    # A table of samples has a shape too, but no type of its numbers.
    is_array = hasattr(data, "shape") and (hasattr(data, "ndim") or hasattr(data, "dtype"))
    return is_array or isinstance(data, (list, tuple, dict))


def _is_endless(data: Any) -> bool:
    """Returns whether a data set repeats for ever, as far as it tells."""
    if hasattr(data, "cardinality"):
        return int(data.cardinality()) == -1  # tf.data.INFINITE_CARDINALITY
    return hasattr(data, "num_batches") and data.num_batches is None


def _is_torch(data: Any) -> bool:
    """Returns whether it is a ``torch.utils.data.DataLoader`` or ``Dataset``; torch is not imported for that."""
    return any(parent.__module__.startswith("torch.utils.data") for parent in type(data).__mro__)


def _gives_batches(data: Any, selectors: Sequence[Selector]) -> bool | None:
    """Returns whether a data set gives batches rather than samples; None if it does not tell."""
    import keras

    if isinstance(data, keras.utils.PyDataset):
        return True
    if _is_torch(data) and hasattr(data, "batch_sampler"):
        return data.batch_sampler is not None
    if hasattr(data, "element_spec") and not any(callable(selector) for selector in selectors):
        shapes = [spec.shape for spec in keras.tree.flatten(_split("images", data.element_spec, selectors).images)]
        # An open extent in front of known ones; pictures of any height have an open width as well.
        if all(shape.rank and shape[0] is None and None not in list(shape)[1:] for shape in shapes):
            return True
    return None


# --- samples and batches ----------------------------------------------------------------------------------------------


def _split(name: str, sample: Any, selectors: Sequence[Selector], from_torch: bool = False) -> Batch:
    """Splits a sample, or all samples at once, into images, labels and what comes third; arrays stay as they are."""
    if any(selector is not None for selector in selectors):
        return Batch(*(_selected(name, sample, selector) for selector in selectors))
    # The DataLoader of torch makes lists of tuples.
    if isinstance(sample, (tuple, list) if from_torch else tuple) and len(sample) in (1, 2, 3):
        return Batch(*sample)
    return Batch(sample)


def _selected(name: str, sample: Any, selector: Selector) -> Any:
    if selector is None or callable(selector):
        return None if selector is None else selector(sample)
    if not isinstance(sample, Mapping) or selector not in sample:
        received = f"keys {', '.join(map(repr, sample))}" if isinstance(sample, Mapping) else type(sample).__name__
        raise ArgumentError(name, f"hold dicts with the key {selector!r}", received, "a function of a sample")
    return sample[selector]


def _map_batch(function: Callable[[Any], np.ndarray], batch: Batch) -> Batch:
    return Batch(*(_mapped(function, part) for part in (batch.images, batch.labels, batch.extra)))


def _mapped(function: Callable[[Any], np.ndarray], part: Structure) -> Structure:
    import keras

    return None if part is None else keras.tree.map_structure(function, part)


def _with_arrays(batch: Batch, count: int | None = None) -> Batch:
    """Returns the batch with labels and what comes third as arrays, where they are lists of numbers.

    Args:
        batch: As a data set gives it.
        count: The number of samples where a list may hold something for each; None where it is one for each output.
    """
    columns = (None if part is None else _column(part, count) for part in (batch.labels, batch.extra))
    return Batch(batch.images, *columns)


def _column(part: Any, count: int | None) -> Structure:
    """Returns one array, or a structure of them: a dict, or a list with an array for each output."""
    if isinstance(part, Mapping):
        return {name: _column(values, count) for name, values in part.items()}
    if not isinstance(part, (list, tuple)):
        return part if hasattr(part, "shape") else as_numpy(part)
    are_arrays = bool(part) and all(len(getattr(values, "shape", ())) for values in part)
    if are_arrays and (count is None or (len(part) != count and all(_length(values) == count for values in part))):
        return list(part)
    try:
        return as_numpy(part)
    except ValueError:  # as many boxes as there are objects
        ragged = np.empty(len(part), object)
        ragged[:] = part
        return ragged


def _check_lengths(name: str, batch: Batch) -> int:
    """Raises ArgumentError unless all parts have one length, which is returned."""
    import keras

    lengths = {_length(leaf) for leaf in keras.tree.flatten(batch.images)}
    if len(lengths) != 1 or 0 in lengths:
        received = ", ".join(map(str, sorted(lengths))) or "none"
        raise ArgumentError(name, "hold at least one picture, and as many for every input", received)
    (count,) = lengths
    for part, word in ((batch.labels, "label"), (batch.extra, "entry of what comes third")):
        found = [] if part is None else [_length(leaf) for leaf in keras.tree.flatten(part)]
        if any(length != count for length in found):
            received = " and ".join(map(str, found)) + (" labels" if word == "label" else "")
            single = any(np.ndim(leaf) == 3 for leaf in keras.tree.flatten(batch.images))
            raise ArgumentError(
                name,
                f"have one {word} per picture",
                f"{received} for {count} pictures",
                "(image[None], label[None]) for a single picture" if single else (),
            )
    return count


def _length(array: Any) -> int:
    """Returns the number of samples in an array of any framework; 0 in a single value."""
    shape = array.shape if hasattr(array, "shape") else np.shape(array)
    return int(shape[0]) if len(shape) else 0


def _slices(name: str, whole: Batch, batch_size: int | None) -> Iterator[Batch]:
    """Yields slices of arrays; only what a slice holds is read."""
    import keras

    if isinstance(whole.images, list) and whole.images and all(np.ndim(picture) == 3 for picture in whole.images):
        pictures = [as_numpy(picture) for picture in whole.images]
        _check_shapes(name, pictures[:1] * len(pictures), pictures)
        whole = Batch(np.stack(pictures), whole.labels, whole.extra)
    leaves = keras.tree.flatten(whole.images)
    whole = _with_arrays(whole, count=_length(leaves[0]) if leaves else 0)
    count = _check_lengths(name, whole)
    size = batch_size or count
    for start in range(0, count, size):
        yield _map_batch(functools.partial(_rows_of, rows=slice(start, start + size)), whole)


def _rows_of(array: Any, rows: slice) -> np.ndarray:
    return as_numpy(array[rows])


def _stream(name: str, data: Any, selectors: Sequence[Selector]) -> Iterator[Batch]:
    """Yields the batches of a data set as it gives them; a single sample becomes a batch of one."""
    from_torch, gives_batches = _is_torch(data), _gives_batches(data, selectors)
    for sample in _samples(data):
        batch = _map_batch(as_numpy, _with_arrays(_split(name, sample, selectors, from_torch)))
        if not (_is_batched(name, batch) if gives_batches is None else gives_batches):
            batch = _map_batch(lambda array: array[None], batch)
        _check_lengths(name, batch)
        yield batch


def _samples(data: Any) -> Iterator[Any]:
    """Yields what a data set gives, one after the other."""
    import keras

    if isinstance(data, keras.utils.PyDataset):
        indices = itertools.count() if data.num_batches is None else range(data.num_batches)
    elif isinstance(data, Iterable):
        yield from data
        return
    else:  # a torch.utils.data.Dataset
        indices = range(len(data))
    for index in indices:
        yield data[index]


def _is_batched(name: str, batch: Batch) -> bool:
    """Returns whether these are several samples, told by their labels and the number of axes."""
    import keras

    shape = max((array.shape for array in keras.tree.flatten(batch.images)), key=len, default=())
    if not shape:
        raise ArgumentError(name, "hold pictures", "single values", "an iterable of pictures or batches")
    if batch.labels is None:
        return len(shape) >= 4
    labels = keras.tree.flatten(batch.labels)[0]
    if labels.ndim == 0 or labels.shape[:1] != shape[:1]:
        return labels.ndim > 0 and len(shape) >= 4
    # (28, 28, 3) with 28 numbers is one picture with a one-hot row.
    is_picture = len(shape) == 3 and shape[-1] in (1, 3, 4)
    return len(shape) != 1 and not (is_picture and _is_one_hot(labels))


def _is_one_hot(labels: np.ndarray) -> bool:
    """Returns whether labels are the shares of the classes of one picture."""
    return labels.ndim == 1 and labels.dtype.kind == "f" and bool((labels >= 0).all()) and np.isclose(labels.sum(), 1)


def _rebatched(name: str, batches: Iterable[Batch], batch_size: int | None) -> Iterator[Batch]:
    """Puts batches together or takes them apart, so that all but the last have ``batch_size`` samples."""
    import keras

    held: list[Batch] = []
    count, first = 0, None
    for batch in batches:
        leaves = [leaf[0] for leaf in keras.tree.flatten(batch.images)]
        first = first or leaves
        _check_shapes(name, first, leaves)
        if batch_size is None:
            yield batch
            continue
        held.append(batch)
        count += len(batch)
        if count >= batch_size:
            joined = join_batches(held)
            whole = count - count % batch_size
            for start in range(0, whole, batch_size):
                yield joined[start : start + batch_size]
            # Copied, so that the rest does not keep the whole batch alive.
            held = [_map_batch(np.copy, joined[whole:])]
            count -= whole
    if first is None:
        raise ArgumentError(name, "hold at least one picture", "an empty data set")
    if count:
        yield join_batches(held)


def _check_shapes(name: str, expected: Sequence[np.ndarray], arrays: Sequence[np.ndarray]) -> None:
    """Raises ArgumentError unless each array has the shape of its counterpart."""
    for wanted, array in zip(expected, arrays, strict=True):
        if wanted.shape != array.shape:
            received = f"shapes {wanted.shape} and {array.shape}"
            raise ArgumentError(name, "all have one shape", received, "the pictures resized to one shape")
