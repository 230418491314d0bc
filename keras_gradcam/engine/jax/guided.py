"""The guided backpropagation rule for JAX.

Guided backpropagation (Springenberg et al. 2015, https://arxiv.org/abs/1412.6806) differentiates a rectifier f by

    guided(g) = f'(x) * max(g, 0)

The result of every rectifier goes through a gate: the identity, whose derivative lets positive gradients pass. What
follows is the rectifier's own derivative. Where minus a rectifier is computed, such as min(x, 0) = -relu(-x), it is the
negative gradient that passes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ..graphs.activations import Activation


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gate(x: Any, sign: int) -> Any:
    return x


def _forward(x: Any, sign: int) -> tuple[Any, None]:
    return x, None


def _backward(sign: int, _: None, gradient: Any) -> tuple[Any]:
    return (sign * jax.numpy.maximum(sign * gradient, 0),)


_gate.defvjp(_forward, _backward)


def gates(found: Sequence[Activation]) -> dict[int, Callable[[Any], Any]]:
    """Returns the gates of all rectifiers among activations, by the id of the value that each is applied to."""
    return {
        id(activation.operation.outputs[0]): functools.partial(_gate, sign=activation.sign)
        for activation in found
        if activation.kind == "rectifier"
    }
