"""What a model takes: the specification of its inputs, and batches of pictures brought into one form."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from ..engine.base import InputSpec, Structure
from ..engine.model import declared_inputs
from ..errors import ArgumentError


def input_spec_of(images: Structure) -> InputSpec:
    """Shapes and dtypes of a batch of inputs."""
    import keras

    flat = keras.tree.flatten(images)
    structure = keras.tree.map_structure(lambda _: 0, images)
    return InputSpec(structure, tuple((tuple(leaf.shape[1:]), str(leaf.dtype)) for leaf in flat))


def model_input_spec(model: Any) -> InputSpec:
    """Shapes and dtypes of what ``model`` takes.

    Raises:
        ValueError: If the model does not know them.
    """
    import keras

    flat = declared_inputs(model)
    if not flat:
        raise ArgumentError(
            "images",
            "be given for a model that does not know the shape of its input",
            f"images=None and a model of type {type(model).__name__}",
            "any batch the model can be called with",
        )
    # A sequential model may have no `input`; whether a functional one takes a list or a dict only `input` tells.
    return input_spec_of(flat[0] if len(flat) == 1 and isinstance(model, keras.Sequential) else model.input)


def explained_input(input_spec: InputSpec, which: int | None = None) -> int:
    """The position, in flat order, of the input that is explained: by default the first of the highest rank."""
    ranks = [len(shape) for shape, _ in input_spec.leaves]
    if which is None:
        return ranks.index(max(ranks))
    if which not in range(len(ranks)):
        raise ArgumentError(
            "input_index", "be the position of one of the model's inputs", repr(which), f"0 to {len(ranks) - 1}"
        )
    return which


def input_shape(input_spec: InputSpec, which: int | None = None) -> tuple[int, ...]:
    """The shape of the explained input without the batch, ``(H, W, C)`` for pictures."""
    return input_spec.leaves[explained_input(input_spec, which)][0]


def standardized(images: Structure, model: Any) -> Structure:
    """``images`` as NumPy arrays of the dtypes that an engine takes, checked against each other and the model.

    Raises:
        ValueError: If there is nothing to explain, or shapes do not fit.
    """
    import keras

    arrays = keras.tree.map_structure(_standardized_leaf, images)
    flat = keras.tree.flatten(arrays)
    if not flat or any(array.ndim == 0 for array in flat) or len({len(array) for array in flat}) != 1:
        raise ArgumentError(
            "images",
            "be a batch, the same number of samples for every input",
            f"shapes {[array.shape for array in flat]}",
        )
    if not len(flat[0]):
        raise ArgumentError("images", "hold at least one sample", f"shape {flat[0].shape}")
    expected = [tuple(leaf.shape) for leaf in declared_inputs(model, images)]
    if expected and len(expected) != len(flat):
        raise ArgumentError(
            "images",
            f"hold one array for each of the model's {len(expected)} inputs",
            f"{len(flat)} arrays",
            "the pictures alone, np.stack(images) for a list of them; where pictures come with labels, a tuple "
            "`(images, labels)`",
        )
    if expected:
        for array, shape in zip(flat, expected, strict=True):
            fits = len(shape) == array.ndim and all(
                want in (None, have) for want, have in zip(shape[1:], array.shape[1:], strict=True)
            )
            if not fits:
                raise ArgumentError(
                    "images",
                    f"have the shape that the model takes, {shape}",
                    str(array.shape),
                    "images[None] for a single picture" if array.ndim == len(shape) - 1 else (),
                )
    return arrays


def _standardized_leaf(array: Any) -> np.ndarray:
    import keras

    array = np.asarray(array)
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise ArgumentError("images", "be real numbers", f"an array of dtype {array.dtype}")
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return array.astype(keras.config.floatx(), copy=False)
    return array


def flattened(inputs: Structure) -> tuple[list[np.ndarray], InputSpec]:
    """The arrays in flat order, and their shapes and dtypes."""
    import keras

    return keras.tree.flatten(inputs), input_spec_of(inputs)


def floating(array: np.ndarray) -> np.ndarray:
    """The array as floating point."""
    import keras

    return array if array.dtype.kind == "f" else array.astype(keras.config.floatx())


def check_channels_last(model: Any, shape: Sequence[int]) -> None:
    """Raises ValueError for a model with its channels first; warns of an input that looks like it."""
    first = [layer for layer in model._flatten_layers() if getattr(layer, "data_format", None) == "channels_first"]
    if first:
        raise ArgumentError(
            "model",
            "have its channels last",
            f"layer {first[0].name!r} with data_format='channels_first'",
            "the same model built with data_format='channels_last'",
        )
    if len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 4:
        warnings.warn(
            f"The input of shape {tuple(shape)} looks as if its channels came first; it is read as (H, W, C), and maps "
            "are laid out accordingly.",
            UserWarning,
            stacklevel=4,
        )


#: Which part of a sample is meant: a key of a dict, or a function of the sample. None where samples are tuples.
Selector = Union[str, Callable[[Any], Any], None]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples of a data set.

    Attributes:
        images: What the model takes, N samples: an array, or a list or dict of arrays for several inputs.
        labels: (N, ...), or None.
        extra: (N, ...), what comes third: the cameras of a gallery, the weights of training samples; or None.
    """

    images: Structure
    labels: np.ndarray | None = None
    extra: np.ndarray | None = None

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

    Args:
        data: An array of pictures (a memory map stays on disk), or a list or dict of arrays for several inputs;
            ``(images, labels)`` or ``(images, labels, extra)``; a ``tf.data.Dataset``, a ``keras.utils.PyDataset``, a
            ``torch.utils.data.DataLoader`` or any iterable of pictures, of batches, or of either with labels.
        batch_size: How many samples each batch has, the last one perhaps fewer; by default as many as the data set
            gives at a time.
        name: The argument that errors are about.
        image: Where samples are dicts, as those of ``tensorflow_datasets``: the key of the pictures, or a function
            that makes what the model takes out of a sample.
        label: The same for labels.
        extra: The same for what comes third.
        endless: Whether a data set that repeats for ever is allowed.

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
    if not endless and _is_endless(data):
        raise ArgumentError(
            name,
            "come to an end",
            "a data set that repeats for ever",
            "the data set before `.repeat()`, `.take(n)`",
        )
    if not _is_stream(data):
        return _slices(name, _split(name, data, selectors), batch_size)
    if not isinstance(data, Iterable) and not hasattr(data, "num_batches"):
        raise ArgumentError(
            name,
            "hold pictures",
            type(data).__name__,
            "an array (N, H, W, C), a tf.data.Dataset, a PyDataset, a DataLoader, an iterable of batches",
        )
    return _rebatched(name, _streamed(name, data, selectors), batch_size)


def _is_stream(data: Any) -> bool:
    """Returns whether a data set is read sample by sample or batch by batch, and does not lie there as arrays."""
    import keras

    if hasattr(data, "element_spec") or isinstance(data, keras.utils.PyDataset) or _is_torch_loader(data):
        return True
    if isinstance(data, list) and data:
        # A list of pictures or of samples; a list of batches is what a model with several inputs takes.
        return all(isinstance(sample, (tuple, dict)) or np.ndim(sample) == 3 for sample in data)
    return not (hasattr(data, "shape") or isinstance(data, (list, tuple, dict)))


def _is_endless(data: Any) -> bool:
    """Returns whether a data set repeats for ever, as far as it tells."""
    if hasattr(data, "cardinality"):
        return int(data.cardinality()) == -1  # tf.data.INFINITE_CARDINALITY
    return hasattr(data, "num_batches") and data.num_batches is None


def as_numpy(array: Any) -> np.ndarray:
    """Returns an array of any framework as NumPy, without a copy where that is possible."""
    if hasattr(array, "detach"):  # a torch tensor that may need gradients or live on an accelerator
        array = array.detach().cpu()
    return np.asarray(array)


def _is_torch_loader(data: Any) -> bool:
    return any(parent.__module__.startswith("torch.utils.data") for parent in type(data).__mro__)


def _split(name: str, sample: Any, selectors: Sequence[Selector], listed: bool = False) -> Batch:
    """Splits a sample, or all samples at once, into images, labels and what comes third; arrays stay as they are."""
    if any(selector is not None for selector in selectors):
        if selectors[0] is None:
            raise ArgumentError(
                "image", "say what the pictures are where `label` is given", "None", "a key, a function"
            )
        return Batch(*(_selected(name, sample, selector) for selector in selectors))
    if isinstance(sample, (tuple, list) if listed else tuple) and len(sample) in (1, 2, 3):
        return Batch(*sample)
    return Batch(sample)


def _selected(name: str, sample: Any, selector: Selector) -> Any:
    if selector is None or callable(selector):
        return None if selector is None else selector(sample)
    if not isinstance(sample, dict) or selector not in sample:
        received = f"keys {', '.join(map(repr, sample))}" if isinstance(sample, dict) else type(sample).__name__
        raise ArgumentError(name, f"hold dicts with the key {selector!r}", received, "a function of a sample")
    return sample[selector]


def _map_batch(function: Callable[[Any], np.ndarray], batch: Batch) -> Batch:
    import keras

    return Batch(
        keras.tree.map_structure(function, batch.images),
        None if batch.labels is None else function(batch.labels),
        None if batch.extra is None else function(batch.extra),
    )


def _slices(name: str, whole: Batch, batch_size: int | None) -> Iterator[Batch]:
    """Slices of arrays; only what a slice holds is read."""
    import keras

    leaves = [*keras.tree.flatten(whole.images), *(one for one in (whole.labels, whole.extra) if one is not None)]
    lengths = {len(leaf) if np.ndim(leaf) else 0 for leaf in leaves}
    if len(lengths) != 1 or 0 in lengths:
        raise ArgumentError(
            name,
            "hold at least one picture, and as many for every input and label",
            f"{', '.join(map(str, sorted(lengths)))} of them",
        )
    (count,) = lengths
    size = batch_size or count
    for start in range(0, count, size):
        rows = slice(start, start + size)
        yield _map_batch(functools.partial(_rows_of, rows=rows), whole)


def _rows_of(array: Any, rows: slice) -> np.ndarray:
    return as_numpy(array[rows])


def _streamed(name: str, data: Any, selectors: Sequence[Selector]) -> Iterator[Batch]:
    """The batches of a data set as it gives them; a single sample becomes a batch of one."""
    import keras

    if isinstance(data, keras.utils.PyDataset):
        # A PyDataset may be endless (`num_batches` None) and is always batched.
        count = data.num_batches
        for position in range(count) if count is not None else itertools.count():
            yield _map_batch(as_numpy, _split(name, data[position], selectors))
        return
    torch_loader = _is_torch_loader(data)
    for sample in data:
        # The loader of torch makes lists of tuples.
        batch = _map_batch(as_numpy, _split(name, sample, selectors, listed=torch_loader))
        yield batch if _is_batched(batch) else _map_batch(_one_sample, batch)


def _one_sample(array: np.ndarray) -> np.ndarray:
    return array[None]


def _is_batched(batch: Batch) -> bool:
    """Whether these are several samples, told by their labels and the number of axes."""
    import keras

    shape = max((array.shape for array in keras.tree.flatten(batch.images)), key=len)
    if batch.labels is not None:
        labels = batch.labels
        if labels.ndim == 0 or labels.shape[:1] != shape[:1]:
            return labels.ndim > 0 and len(shape) >= 4
        # (28, 28, 3) with 28 numbers is one picture with a one-hot row.
        is_picture = len(shape) == 3 and shape[-1] in (1, 3, 4)
        return len(shape) != 1 and not (is_picture and _is_one_hot(labels))
    return len(shape) >= 4


def _is_one_hot(labels: np.ndarray) -> bool:
    """Whether labels are the shares of the classes of one picture."""
    return labels.ndim == 1 and labels.dtype.kind == "f" and bool((labels >= 0).all()) and np.isclose(labels.sum(), 1)


def _rebatched(name: str, batches: Iterable[Batch], batch_size: int | None) -> Iterator[Batch]:
    """Batches put together or taken apart, so that all but the last have ``batch_size`` samples."""
    import keras

    held: list[Batch] = []
    count, shapes = 0, None
    for batch in batches:
        own = [leaf.shape[1:] for leaf in keras.tree.flatten(batch.images)]
        shapes = shapes or own
        if shapes != own:
            raise ArgumentError(
                name, "all have one shape", f"shapes {shapes} and {own}", "the pictures resized to one shape"
            )
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
    if shapes is None:
        raise ArgumentError(name, "hold at least one picture", "an empty data set")
    if count:
        yield join_batches(held)


def join_batches(batches: Sequence[Batch]) -> Batch:
    """Concatenates batches, sample by sample."""
    import keras

    def joined(parts: Sequence[Any]) -> Any:
        return None if any(part is None for part in parts) else np.concatenate(parts)

    if len(batches) == 1:
        return batches[0]
    images = keras.tree.map_structure(lambda *leaves: np.concatenate(leaves), *(batch.images for batch in batches))
    return Batch(images, joined([batch.labels for batch in batches]), joined([batch.extra for batch in batches]))
