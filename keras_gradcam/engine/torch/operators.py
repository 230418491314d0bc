"""Translates calls of PyTorch's operators into the words of :mod:`keras_gradcam.engine.graphs.graph`.

What autograd decomposes is seen in pieces: a dense layer is a product of matrices, an Einstein sum permutations and a
product of batches of matrices. An operator that no table names is opaque.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..graphs.graph import ALONG, CONTRACTION, ELEMENTWISE, MOVE, OPAQUE, REDUCE, RESHAPE, Operation, Value, origin_of
from .calls import Call, on_arrays
from .elementwise import elementwise
from .windows import is_resizing, window

#: Gives the value of a tensor, or of a number among the arguments.
ValueOf = Callable[[Any], Value]

#: Operators that depend on no element of their arguments.
_FACTORIES = {
    *("arange", "empty", "empty_like", "empty_permuted", "empty_strided", "eye", "full", "full_like", "linspace"),
    *("logspace", "new_empty", "new_empty_strided", "new_full", "new_ones", "new_zeros", "ones", "ones_like"),
    *("scalar_tensor", "tril_indices", "triu_indices", "zero", "zeros", "zeros_like", "bartlett_window"),
    *("hann_window", "hamming_window", "blackman_window", "kaiser_window", "rand", "rand_like", "randn", "randn_like"),
    *("randint", "randint_like", "randperm", "cauchy", "exponential", "geometric", "log_normal", "random", "uniform"),
}

#: Operators that only move elements: the name of what they do, and the arguments that hold the elements.
_MOVES: dict[str, tuple[str, tuple[str, ...]]] = {
    "_unsafe_index": ("index", ("self",)),
    "_upsample_nearest_exact1d": ("repeat", ("self",)),
    "_upsample_nearest_exact2d": ("repeat", ("self",)),
    "_upsample_nearest_exact3d": ("repeat", ("self",)),
    "cat": ("concatenate", ("tensors",)),
    "channel_shuffle": ("channel_shuffle", ("self",)),
    "constant_pad_nd": ("pad", ("self",)),
    "diag_embed": ("diag_embed", ("self",)),
    "diagonal": ("diagonal", ("self",)),
    "diagonal_scatter": ("scatter", ("self", "src")),
    "embedding": ("embedding", ("weight",)),
    "expand": ("broadcast_to", ("self",)),
    "flip": ("flip", ("self",)),
    "gather": ("gather", ("self",)),
    "im2col": ("patches", ("self",)),
    "index": ("index", ("self",)),
    "index_copy": ("scatter", ("self", "source")),
    "index_put": ("scatter", ("self", "values")),
    "index_select": ("index_select", ("self",)),
    "native_channel_shuffle": ("channel_shuffle", ("self",)),
    "numpy_T": ("transpose", ("self",)),
    "permute": ("transpose", ("self",)),
    "permute_copy": ("transpose", ("self",)),
    "pixel_shuffle": ("pixel_shuffle", ("self",)),
    "pixel_unshuffle": ("pixel_unshuffle", ("self",)),
    "reflection_pad1d": ("pad", ("self",)),
    "reflection_pad2d": ("pad", ("self",)),
    "reflection_pad3d": ("pad", ("self",)),
    "repeat": ("tile", ("self",)),
    "repeat_interleave": ("repeat", ("self",)),
    "replication_pad1d": ("pad", ("self",)),
    "replication_pad2d": ("pad", ("self",)),
    "replication_pad3d": ("pad", ("self",)),
    "roll": ("roll", ("self",)),
    "rot90": ("rot90", ("self",)),
    "scatter": ("scatter", ("self", "src")),
    "select": ("slice", ("self",)),
    "select_scatter": ("scatter", ("self", "src")),
    "slice": ("slice", ("self",)),
    "slice_scatter": ("scatter", ("self", "src")),
    "split": ("split", ("self",)),
    "split_with_sizes": ("split", ("self",)),
    "stack": ("stack", ("tensors",)),
    "t": ("transpose", ("self",)),
    "take": ("take", ("self",)),
    "take_along_dim": ("gather", ("self",)),
    "transpose": ("transpose", ("self",)),
    "tril": ("tril", ("self",)),
    "triu": ("triu", ("self",)),
    "unbind": ("split", ("self",)),
    "unfold": ("patches", ("self",)),
    "unsafe_split": ("split", ("self",)),
    "unsafe_split_with_sizes": ("split", ("self",)),
    "upsample_nearest1d": ("repeat", ("self",)),
    "upsample_nearest2d": ("repeat", ("self",)),
    "upsample_nearest3d": ("repeat", ("self",)),
}

_RESHAPES = {"_reshape_alias", "_reshape_copy", "_unsafe_view", "flatten", "reshape", "squeeze", "unflatten"}
_RESHAPES |= {"unsqueeze", "view", "view_copy"}

#: Operators with one result for all elements along some axes: the name of the function.
_REDUCTIONS = {
    **{name: name for name in ("all", "any", "argmax", "argmin", "logsumexp", "max", "mean", "median", "min", "prod")},
    **{name: name for name in ("count_nonzero", "mode", "nanmean", "nanmedian", "nansum", "std", "sum", "var")},
    "amax": "max",
    "amin": "min",
    "linalg_vector_norm": "norm",
    "norm": "norm",
    "std_mean": "std",
    "var_mean": "var",
}

#: Operators that compute every element from all along one axis: the name of the function.
_ALONG = {
    "_log_softmax": "log_softmax",
    "_safe_softmax": "softmax",
    "_softmax": "softmax",
    "argsort": "argsort",
    "cummax": "cummax",
    "cummin": "cummin",
    "cumprod": "cumprod",
    "cumsum": "cumsum",
    "logcumsumexp": "logcumsumexp",
    "sort": "sort",
}

#: Products of matrices: the arguments, and the letters of their axes and those of the result.
_PRODUCTS: dict[str, tuple[tuple[str, str], tuple[str, str, str]]] = {
    "bmm": (("self", "mat2"), ("nab", "nbc", "nac")),
    "dot": (("self", "tensor"), ("a", "a", "")),
    "mm": (("self", "mat2"), ("ab", "bc", "ac")),
    "mv": (("self", "vec"), ("ab", "b", "a")),
    "outer": (("self", "vec2"), ("a", "b", "ab")),
}

#: Those that add something to the product.
_SUMS: dict[str, tuple[str, tuple[str, str]]] = {
    "addmm": ("mm", ("mat1", "mat2")),
    "addmv": ("mv", ("mat", "vec")),
    "addr": ("outer", ("vec1", "vec2")),
    "baddbmm": ("bmm", ("batch1", "batch2")),
}

_BATCH_NORMALIZATIONS = {
    *("_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "batch_norm", "cudnn_batch_norm"),
    *("miopen_batch_norm", "native_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update"),
}


def draws_numbers(call: Call) -> bool:
    """Returns whether a call draws random numbers, or may do so."""
    return torch.Tag.nondeterministic_seeded in call.operator.tags and not _is_elementwise(call)


def _is_elementwise(call: Call) -> bool:
    return elementwise(call) is not None


def translated(call: Call, value_of: ValueOf, outputs: Sequence[Value], tensors: Sequence[Any]) -> list[Operation]:
    """Translates a call into operations, of which the last has its results.

    Args:
        call: The call.
        value_of: Gives the values of its arguments.
        outputs: Those of its results; the operations that they come from are set.
        tensors: The results themselves.
    """
    for translate in (
        _factory,
        _elementwise,
        _masked,
        _move,
        _reduction,
        _along,
        _window,
        _normalization,
        _attention,
        _product,
    ):
        operations = translate(call, value_of, outputs, tensors)
        if operations:
            break
    else:
        slots = call.slots()
        operations = [_operation(call, call.name, OPAQUE, [value_of(call.get(slot)) for slot in slots])]
    last = operations[-1]
    last.outputs = tuple(outputs)
    for position, value in enumerate(outputs):
        value.producer, value.position = last, position
    return operations


def _operation(
    call: Call, function: str, rule: str, inputs: Sequence[Value], run: Any = None, **parameters: Any
) -> Any:
    """Returns an operation without results; ``run`` is a function of tensors."""
    return Operation(
        call.name,
        function,
        rule,
        tuple(inputs),
        run=None if run is None else on_arrays(run),
        parameters=parameters,
    )


def _between(operation: Operation, shape: Sequence[int], dtype: str) -> Value:
    """Gives an operation one result, which only the next operation takes."""
    value = Value(tuple(shape), dtype, origin_of(operation.inputs), None, operation)
    operation.outputs = (value,)
    return value


# ---------------------------------------------------------------------------------------------- one for each family


def _factory(call: Call, value_of: ValueOf, outputs: Sequence[Value], tensors: Sequence[Any]) -> list[Operation]:
    return [_operation(call, call.name, OPAQUE, [])] if call.name in _FACTORIES else []


def _elementwise(call: Call, value_of: ValueOf, outputs: Sequence[Value], tensors: Sequence[Any]) -> list[Operation]:
    found = elementwise(call)
    if found is None:
        return []
    slots = [(name, None) for name in found.operands]
    inputs = [value_of(call.get(slot)) for slot in slots]
    run = found.compute or call.again(slots)
    return [_operation(call, found.function, ELEMENTWISE, inputs, run)]


def _masked(call: Call, value_of: ValueOf, outputs: Sequence[Value], tensors: Sequence[Any]) -> list[Operation]:
    """Translates ``x[mask] = number``, which chooses between two for each element."""
    if call.name != "index_put" or call.arguments.get("accumulate") or len(call.arguments["indices"]) != 1:
        return []
    tensor, (mask,), values = (call.arguments[name] for name in ("self", "indices", "values"))
    if mask is None or mask.dtype != torch.bool or mask.shape != tensor.shape or values.numel() != 1:
        return []
    inputs = [value_of(call.get(slot)) for slot in (("indices", 0), ("values", None), ("self", None))]
    return [_operation(call, "where", ELEMENTWISE, inputs, torch.where)]


def _move(call: Call, value_of: ValueOf, outputs: Sequence[Value], tensors: Sequence[Any]) -> list[Operation]:
    """Translates what moves elements, or keeps them in their order."""
    if call.name in _RESHAPES or (call.name == "expand" and tensors[0].numel() == call.arguments["self"].numel()):
        shape = tuple(outputs[0].shape)
        source = value_of(call.arguments["self"])
        if call.name == "view" and "dtype" in call.arguments:
            return []
        return [_operation(call, "reshape", RESHAPE, [source], lambda x: x.reshape(shape), slots=[("self", None)])]
    adds = call.arguments.get("accumulate") or call.arguments.get("reduce")
    if call.name not in _MOVES or adds or (is_resizing(call) and not _enlarges(call, tensors[0])):
        return []
    function, names = _MOVES[call.name]
    carried = call.slots(*(name for name in names if name in call.arguments))
    others = [slot for slot in call.slots() if slot not in carried]
    if call.name == "constant_pad_nd":
        call = Call(call.operator, call.name, {**call.arguments, "value": 0})
    slots = [*carried, *others]
    inputs, moved = [value_of(call.get(slot)) for slot in slots], tuple(range(len(carried)))
    return [_operation(call, function, MOVE, inputs, call.again(slots), moved=moved, slots=slots)]


def _enlarges(call: Call, output: torch.Tensor) -> bool:
    """Returns whether a map is enlarged by whole factors, so that each cell is repeated equally often."""
    return not any(after % before for before, after in zip(call.arguments["self"].shape, output.shape, strict=True))


def _reduction(call: Call, value_of: ValueOf, outputs: Sequence[Value], tensors: Sequence[Any]) -> list[Operation]:
    arguments = call.arguments
    if call.name not in _REDUCTIONS or not isinstance(arguments.get("self"), torch.Tensor):
        return []
    rank, dim = arguments["self"].ndim, arguments.get("dim")
    axes = list(dim) if isinstance(dim, (list, tuple)) else [] if dim is None else [dim]
    axes = [axis % max(rank, 1) for axis in axes] or list(range(rank))
    keepdims = bool(arguments.get("keepdim", False))
    function, run = _REDUCTIONS[call.name], call.again([("self", None)])
    inputs = [value_of(arguments["self"])]
    return [_operation(call, function, REDUCE, inputs, run, axes=tuple(axes), keepdims=keepdims)]


def _along(call: Call, value_of: ValueOf, outputs: Sequence[Value], tensors: Sequence[Any]) -> list[Operation]:
    if call.name not in _ALONG:
        return []
    source = call.arguments["self"]
    axes = (call.arguments["dim"] % max(source.ndim, 1),)
    run = call.again([("self", None)])
    return [_operation(call, _ALONG[call.name], ALONG, [value_of(source)], run, axes=axes)]


def _window(call: Call, value_of: ValueOf, outputs: Sequence[Value], tensors: Sequence[Any]) -> list[Operation]:
    found = window(call, tensors[0]) if tensors else None
    if found is None:
        return []
    rule, function, parameters = found
    return [_operation(call, function, rule, [value_of(call.get(slot)) for slot in call.slots()], **parameters)]


def _normalization(call: Call, value_of: ValueOf, outputs: Sequence[Value], tensors: Sequence[Any]) -> list[Operation]:
    """Translates normalisations, which scale by weights and by statistics of their own or of the past."""
    arguments = call.arguments
    source = arguments.get("input")
    if source is None:
        return []
    inputs = [value_of(call.get(slot)) for slot in call.slots()]
    if call.name in _BATCH_NORMALIZATIONS:
        by_batch = arguments.get("training", False) or arguments.get("running_mean") is None
        if not by_batch:
            # Weights have the shape of the channels, which are not the last axis.
            return [_operation(call, "batch_norm", ELEMENTWISE, inputs[:1])]
        axes = tuple(axis for axis in range(source.ndim) if axis != 1)
        return [_operation(call, "batch_norm", ALONG, inputs, axes=axes)]
    if call.name in ("native_layer_norm", "_fused_rms_norm", "rms_norm"):
        axes = tuple(range(source.ndim - len(arguments["normalized_shape"]), source.ndim))
        return [_operation(call, "layer_norm", ALONG, inputs, axes=axes)]
    if call.name == "native_group_norm":
        return [_operation(call, "group_norm", ALONG, inputs, axes=tuple(range(1, source.ndim)))]
    return []


def _attention(call: Call, value_of: ValueOf, outputs: Sequence[Value], tensors: Sequence[Any]) -> list[Operation]:
    """Translates attention that is one operator into the two products and the softmax that it consists of."""
    if not call.name.startswith("_scaled_dot_product"):
        return []
    query, key, value = (value_of(call.arguments[name]) for name in ("query", "key", "value"))
    letters = "xyz"[: len(query.shape) - 2]
    labels = (f"{letters}qd", f"{letters}kd", f"{letters}qk")
    scores = _operation(call, "scores", CONTRACTION, [query, key], labels=labels)
    shape = (*query.shape[:-1], key.shape[-2])
    shares = _operation(call, "softmax", ALONG, [_between(scores, shape, query.dtype)], axes=(len(shape) - 1,))
    labels = (f"{letters}qk", f"{letters}kv", f"{letters}qv")
    return [
        scores,
        shares,
        _operation(call, "attention", CONTRACTION, [_between(shares, shape, query.dtype), value], labels=labels),
    ]


def _product(call: Call, value_of: ValueOf, outputs: Sequence[Value], tensors: Sequence[Any]) -> list[Operation]:
    if call.name in _PRODUCTS:
        names, labels = _PRODUCTS[call.name]
        run = call.again([(name, None) for name in names])
        return [
            _operation(
                call, call.name, CONTRACTION, [value_of(call.arguments[name]) for name in names], run, labels=labels
            )
        ]
    if call.name not in _SUMS:
        return []
    product, names = _SUMS[call.name]
    factors = [value_of(call.arguments[name]) for name in names]
    run = getattr(torch.ops.aten, product)
    first = _operation(call, product, CONTRACTION, factors, run, labels=_PRODUCTS[product][1])
    added = value_of(call.arguments["self"])
    plain = call.arguments["beta"] == 1 and call.arguments["alpha"] == 1
    inputs = [_between(first, outputs[0].shape, outputs[0].dtype), added]
    return [first, _operation(call, "add" if plain else call.name, ELEMENTWISE, inputs, torch.add if plain else None)]
