"""Translates JAX's primitives into the words of :mod:`keras_gradcam.engine.graphs.graph`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from scipy import special

from ..graphs.graph import (
    CONSTANT,
    CONTRACTION,
    ELEMENTWISE,
    MOVE,
    OPAQUE,
    REDUCE,
    RESHAPE,
    Operation,
    Value,
    origin_of,
)
from .windows import called, window


def _identity(x: np.ndarray) -> np.ndarray:
    return x


#: Primitives that compute element by element: the name of the function and how NumPy computes it.
_FUNCTIONS: dict[str, tuple[str, Callable[..., np.ndarray]]] = {
    "abs": ("abs", np.abs),
    "add": ("add", np.add),
    "add_any": ("add", np.add),
    "and": ("logical_and", np.bitwise_and),
    "atan2": ("arctan2", np.arctan2),
    "cbrt": ("cbrt", np.cbrt),
    "ceil": ("ceil", np.ceil),
    "copy": ("identity", _identity),
    "copy_p": ("identity", _identity),
    "cos": ("cos", np.cos),
    "cosh": ("cosh", np.cosh),
    "device_put": ("identity", _identity),
    "div": ("divide", np.true_divide),
    "eq": ("equal", np.equal),
    "erf": ("erf", special.erf),
    "erfc": ("erfc", special.erfc),
    "exp": ("exp", np.exp),
    "exp2": ("exp2", np.exp2),
    "expm1": ("expm1", np.expm1),
    "floor": ("floor", np.floor),
    "ge": ("greater_equal", np.greater_equal),
    "gt": ("greater", np.greater),
    "is_finite": ("isfinite", np.isfinite),
    "le": ("less_equal", np.less_equal),
    "log": ("log", np.log),
    "log1p": ("log1p", np.log1p),
    "logistic": ("sigmoid", special.expit),
    "lt": ("less", np.less),
    "max": ("maximum", np.maximum),
    "min": ("minimum", np.minimum),
    "mul": ("multiply", np.multiply),
    "ne": ("not_equal", np.not_equal),
    "neg": ("negative", np.negative),
    "not": ("logical_not", np.bitwise_not),
    "optimization_barrier": ("identity", _identity),
    "or": ("logical_or", np.bitwise_or),
    "pow": ("power", np.power),
    "reduce_precision": ("identity", _identity),
    "rem": ("fmod", np.fmod),
    "round": ("round", np.round),
    "rsqrt": ("rsqrt", lambda x: 1 / np.sqrt(x)),
    "sharding_constraint": ("identity", _identity),
    "sign": ("sign", np.sign),
    "sin": ("sin", np.sin),
    "sinh": ("sinh", np.sinh),
    "sqrt": ("sqrt", np.sqrt),
    "square": ("square", np.square),
    "stop_gradient": ("stop_gradient", _identity),
    "sub": ("subtract", np.subtract),
    "tan": ("tan", np.tan),
    "tanh": ("tanh", np.tanh),
    "xor": ("logical_xor", np.bitwise_xor),
}

#: Primitives that move elements, and which of their inputs those elements are in (None for all).
_MOVES: dict[str, int | None] = {
    "broadcast_in_dim": 1,
    "concatenate": None,
    "dynamic_slice": 1,
    "dynamic_update_slice": 2,
    "gather": 1,
    "pad": 2,
    "rev": 1,
    "slice": 1,
    "split": 1,
    "stack": None,
    "tile": 1,
    "transpose": 1,
    "unstack": 1,
}

_REDUCTIONS = {
    "argmax": "argmax",
    "argmin": "argmin",
    "reduce_and": "all",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_or": "any",
    "reduce_prod": "prod",
    "reduce_sum": "sum",
}


def is_one_operation(equation: Any) -> bool:
    """Returns whether a call is translated as a whole.

    JAX writes resizing as products with matrices that it computes on the way, and padding with cells of the border as
    slices that are joined.
    """
    name = equation.params.get("name")
    if name != "_pad":
        return bool(name == "_resize")
    return all(inner.primitive.name != "pad" for inner in equation.params["jaxpr"].eqns)


def translated(equation: Any, inputs: tuple[Value, ...], apply: Callable[[Sequence[Any]], list[Any]]) -> Operation:
    """Translates one equation of a jaxpr.

    Args:
        equation: The equation.
        inputs: The values that it takes.
        apply: Applies it to tensors.
    """
    name = equation.primitive.name
    operation = Operation(name, name, OPAQUE, inputs, apply=apply, run=functools.partial(_evaluated, apply))
    if name == "jit" or name == "pjit":
        name = equation.params["name"]
    for translate in (_elementwise, _move, _reduction, window, _product):
        if translate(name, operation, equation):
            break
    _add_outputs(operation, equation)
    return operation


def _evaluated(apply: Callable[[Sequence[Any]], list[Any]], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Applies an equation to arrays, in their precision."""
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        return [np.asarray(result) for result in apply([jax.numpy.asarray(array) for array in arrays])]


def _computed(function: Callable[..., np.ndarray], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    with np.errstate(all="ignore"):  # exponentials overflow, roots are not defined everywhere
        return [function(*arrays)]


def _add_outputs(operation: Operation, equation: Any) -> None:
    """Gives an operation its results; those of constants are constants, computed when they are asked for."""
    origin = origin_of(operation.inputs)
    constant = origin == CONSTANT and not equation.effects

    @functools.lru_cache(maxsize=1)
    def contents() -> list[np.ndarray]:
        tensors = [jax.numpy.asarray(value.content()) for value in operation.inputs if value.content is not None]
        assert operation.apply is not None
        with jax.ensure_compile_time_eval():
            return [np.asarray(result) for result in operation.apply(tensors)]

    def content(position: int) -> Callable[[], np.ndarray] | None:
        return (lambda: contents()[position]) if constant else None

    operation.outputs = tuple(
        Value(tuple(variable.aval.shape), str(variable.aval.dtype), origin, content(position), operation, position)
        for position, variable in enumerate(equation.outvars)
    )


# ---------------------------------------------------------------------------------------------- one for each family


def _elementwise(name: str, operation: Operation, equation: Any) -> bool:
    """Translates a primitive that computes element by element."""
    if name in _FUNCTIONS:
        operation.rule = ELEMENTWISE
        operation.function, function = _FUNCTIONS[name]
        operation.run = functools.partial(_computed, function)
    elif name == "convert_element_type":
        operation.rule, operation.function = ELEMENTWISE, "cast"
        operation.run = lambda arrays: [arrays[0].astype(equation.params["new_dtype"])]
    elif name == "integer_pow":
        _powers(operation, equation.params["y"])
    elif name == "select_n" and len(operation.inputs) == 3:
        condition, if_false, if_true = operation.inputs
        _reordered(operation, "where", (condition, if_true, if_false), (0, 2, 1), np.where)
    elif name == "clamp":
        low, x, high = operation.inputs
        _reordered(operation, "clip", (x, low, high), (1, 0, 2), np.clip)
    elif name in ("asin", "acos", "atan", "asinh", "acosh", "atanh", "lgamma", "digamma", "erf_inv", "nextafter"):
        operation.rule = ELEMENTWISE
    return operation.rule == ELEMENTWISE


def _powers(operation: Operation, exponent: int) -> None:
    """Translates a whole power, whose exponent becomes an input."""
    apply = operation.apply
    assert apply is not None
    number = np.array(float(exponent))
    operation.rule, operation.function = ELEMENTWISE, "power"
    operation.inputs = (*operation.inputs, Value((), "float64", CONSTANT, lambda: number))
    operation.apply = lambda tensors: apply(tensors[:1])
    operation.run = lambda arrays: [np.power(arrays[0], number)]


def _reordered(
    operation: Operation,
    function: str,
    inputs: tuple[Value, ...],
    positions: tuple[int, ...],
    compute: Callable[..., np.ndarray],
) -> None:
    """Translates a primitive that takes its inputs in another order.

    Args:
        operation: The operation.
        function: The name of its function.
        inputs: The inputs in the order of that function.
        positions: Where in that order each input of the primitive stands.
        compute: How NumPy computes it.
    """
    apply = operation.apply
    assert apply is not None
    operation.rule, operation.function, operation.inputs = ELEMENTWISE, function, inputs
    operation.apply = lambda tensors: apply([tensors[position] for position in positions])
    operation.run = lambda arrays: [compute(*arrays)]


def _move(name: str, operation: Operation, equation: Any) -> bool:
    """Translates a primitive that moves elements, or keeps them in their order."""
    (result, *_) = equation.outvars
    if name in ("reshape", "squeeze") or (
        name == "broadcast_in_dim" and math.prod(result.aval.shape) == math.prod(operation.inputs[0].shape)
    ):
        shape = tuple(result.aval.shape)
        if equation.params.get("dimensions") is None or name != "reshape":
            operation.rule = RESHAPE
            operation.run = lambda arrays: [arrays[0].reshape(shape)]
    elif name in _MOVES:
        count = _MOVES[name]
        operation.rule = MOVE
        operation.parameters = {"moved": tuple(range(len(operation.inputs) if count is None else count))}
        operation.function = name
    elif name == "_pad":
        operation.name, operation.function, operation.rule = "pad", "pad", MOVE
        operation.parameters = {"moved": (0,)}
        operation.run = _moved_as_by(equation)
    return operation.rule in (MOVE, RESHAPE)


def _moved_as_by(equation: Any) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """Returns a function that moves elements of any dtype as a call moves those of its own dtype."""

    @functools.lru_cache(maxsize=1)
    def sources() -> np.ndarray:
        picture, *others = (np.zeros(variable.aval.shape, variable.aval.dtype) for variable in equation.invars)
        # In parts, which are exact in any precision of 11 bits or more.
        parts = np.unravel_index(np.arange(picture.size).reshape(picture.shape), (2048, 2048, 2048))
        moved = np.zeros((), np.int64)
        with jax.ensure_compile_time_eval():
            for part in parts:
                (result,) = called(equation)([part.astype(picture.dtype), *others])
                moved = moved * 2048 + np.asarray(result).astype(np.int64)
        return moved

    return lambda arrays: [np.take(np.asarray(arrays[0]).ravel(), sources())]


def _reduction(name: str, operation: Operation, equation: Any) -> bool:
    """Translates a primitive that reduces axes."""
    if name in _REDUCTIONS:
        operation.rule, operation.function = REDUCE, _REDUCTIONS[name]
        operation.parameters = {"axes": tuple(equation.params["axes"]), "keepdims": False}
    return operation.rule == REDUCE


def _product(name: str, operation: Operation, equation: Any) -> bool:
    """Translates sums of products."""
    if name == "dot_general":
        (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
        letters = iter(map(chr, range(ord("a"), ord("a") + 60)))
        terms = [[""] * len(value.shape) for value in operation.inputs]
        for first, second in (*zip(left_batch, right_batch, strict=True), *zip(left, right, strict=True)):
            terms[0][first] = terms[1][second] = next(letters)
        terms = [[label or next(letters) for label in term] for term in terms]
        batch = [terms[0][axis] for axis in left_batch]
        free = [
            label
            for term, gone in zip(terms, ({*left, *left_batch}, {*right, *right_batch}), strict=True)
            for axis, label in enumerate(term)
            if axis not in gone
        ]
        operation.rule = CONTRACTION
        operation.parameters = {"labels": (*("".join(term) for term in terms), "".join([*batch, *free]))}
    return operation.rule != OPAQUE
