"""PyTorch's operators that compute element by element, in the words of :mod:`keras_gradcam.engine.graphs.graph`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .calls import Call


class Elementwise(NamedTuple):
    """What an operator computes element by element.

    Attributes:
        function: The name of the function.
        operands: The names of the arguments that it is a function of, in its order.
        compute: Computes it from tensors in place of the operands; None for the operator itself.
    """

    function: str
    operands: tuple[str, ...]
    compute: Callable[..., Any] | None = None


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


def _leaky(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, slope * x)


def _clipped(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return torch.minimum(torch.maximum(x, low.to(x.dtype)), high.to(x.dtype))


def _power(x: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    # As the root that it is meant to be, where the exponent is one half.
    return torch.pow(x, exponent.to(x.dtype) if x.is_floating_point() else exponent)


#: Operators of one argument, "self", that bear the name of their function.
_UNARY = {
    *("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "digamma", "elu", "erf"),
    *("erfc", "erfinv", "exp", "exp2", "expm1", "floor", "frac", "gelu", "lgamma", "log", "log10", "log1p", "log2"),
    *("mish", "nan_to_num", "reciprocal", "relu", "round", "rsqrt", "sigmoid", "sign", "silu", "sin", "sinc", "sinh"),
    *("softplus", "sqrt", "tan", "tanh", "trunc", "isfinite", "isinf", "isnan", "logit", "celu", "i0", "softsign"),
    *("special_erfcx", "polygamma", "deg2rad", "rad2deg", "signbit", "angle", "real", "imag"),
}

#: Others of one argument: the name of their function.
_RENAMED = {
    "bitwise_not": "logical_not",
    "logical_not": "logical_not",
    "hardshrink": "hard_shrink",
    "hardsigmoid": "hard_sigmoid",
    "hardswish": "hard_silu",
    "neg": "negative",
    "sgn": "sign",
    "softshrink": "soft_shrink",
    "log_sigmoid_forward": "log_sigmoid",
}

#: Operators that leave their argument as it is, but for where it lies in memory.
_COPIES = {"alias", "clone", "contiguous", "lift", "lift_fresh", "lift_fresh_copy", "positive", "view_as", "pin_memory"}
_COPIES |= {"resolve_conj", "resolve_neg", "detach_copy"}

#: Operators of two arguments, "self" and "other": the name of their function.
_BINARY = {
    "add": "add",
    "atan2": "arctan2",
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
    "copysign": "copysign",
    "div": "divide",
    "eq": "equal",
    "floor_divide": "floor_divide",
    "fmax": "maximum",
    "fmin": "minimum",
    "fmod": "fmod",
    "ge": "greater_equal",
    "gt": "greater",
    "hypot": "hypot",
    "le": "less_equal",
    "logaddexp": "logaddexp",
    "logaddexp2": "logaddexp2",
    "logical_and": "logical_and",
    "logical_or": "logical_or",
    "logical_xor": "logical_xor",
    "lt": "less",
    "maximum": "maximum",
    "minimum": "minimum",
    "mul": "multiply",
    "ne": "not_equal",
    "remainder": "remainder",
    "sub": "subtract",
    "true_divide": "divide",
    "xlogy": "xlogy",
}

#: Others.
_OTHERS = {
    "_prelu_kernel": Elementwise("leaky_relu", ("self", "weight"), _leaky),
    "addcdiv": Elementwise("addcdiv", ("self", "tensor1", "tensor2")),
    "addcmul": Elementwise("addcmul", ("self", "tensor1", "tensor2")),
    "clamp_max": Elementwise("minimum", ("self", "max"), torch.minimum),
    "clamp_min": Elementwise("maximum", ("self", "min"), torch.maximum),
    "detach": Elementwise("stop_gradient", ("self",), _same),
    "leaky_relu": Elementwise("leaky_relu", ("self", "negative_slope"), _leaky),
    "lerp": Elementwise("lerp", ("self", "end", "weight"), torch.lerp),
    "masked_fill": Elementwise("where", ("mask", "value", "self"), torch.where),
    "pow": Elementwise("power", ("self", "exponent"), _power),
    "rsub": Elementwise("subtract", ("other", "self"), torch.sub),
    "threshold": Elementwise("threshold", ("self", "threshold", "value"), lambda x, t, v: torch.where(x > t, x, v)),
    "where": Elementwise("where", ("condition", "self", "other"), torch.where),
}


def elementwise(call: Call) -> Elementwise | None:
    """Returns what an operator computes element by element, or None if it does something else."""
    name, arguments = call.name, call.arguments
    if name in ("clamp", "clip"):
        return _clamp(arguments)
    if name == "hardtanh":
        if (arguments["min_val"], arguments["max_val"]) == (0, 6):
            return Elementwise("relu6", ("self",))
        return Elementwise("clip", ("self", "min_val", "max_val"), _clipped)
    if name in ("_to_copy", "copy", "fill"):
        return _copy(name, arguments)
    if name == "elu" and arguments["scale"] != 1:
        return Elementwise("selu", ("self",))
    if name in _COPIES:
        return Elementwise("identity", ("self",), _same)
    if name in _UNARY or name in _RENAMED:
        return Elementwise(_RENAMED.get(name, name), ("self",))
    if name in ("max", "min") and isinstance(arguments.get("other"), torch.Tensor):
        return Elementwise(f"{name}imum", ("self", "other"))
    if name in _BINARY:
        function = _BINARY[name]
        if arguments.get("alpha", 1) != 1 or arguments.get("rounding_mode"):
            return Elementwise(f"{name}, {arguments.get('alpha') or arguments.get('rounding_mode')}", ("self", "other"))
        return Elementwise(function, ("self", "other"))
    if name == "where" and "self" not in arguments:
        return None
    if name == "rsub" and arguments["alpha"] != 1:
        return Elementwise("rsub", ("self", "other"))
    return _OTHERS.get(name)


def _clamp(arguments: dict[str, Any]) -> Elementwise:
    if arguments["max"] is None:
        return Elementwise("maximum", ("self", "min"), torch.maximum)
    if arguments["min"] is None:
        return Elementwise("minimum", ("self", "max"), torch.minimum)
    return Elementwise("clip", ("self", "min", "max"), _clipped)


def _copy(name: str, arguments: dict[str, Any]) -> Elementwise:
    """Returns the copy of one tensor, or of a number, in the precision of another."""
    if name == "fill":
        return Elementwise("identity", ("value",), _same)
    source = "src" if name == "copy" else "self"
    dtype = arguments["self"].dtype if name == "copy" else arguments["dtype"]
    if dtype in (None, arguments[source].dtype):
        return Elementwise("identity", (source,), _same)
    return Elementwise("cast", (source,), lambda x: x.to(dtype))
