"""The guided backpropagation rule in PyTorch's backward pass.

Guided backpropagation (Springenberg et al. 2015, https://arxiv.org/abs/1412.6806) lets only positive upstream
gradients through a rectifier f and then applies the rectifier's own derivative:

    guided(g) = f'(x) * max(g, 0)

A hook before the backward step of the operator that completes a rectifier cuts the negative part of what arrives. It
is told to do so only while guided gradients are taken, and goes with the backward pass that it belongs to. Where minus
a rectifier is computed, such as min(x, 0) = -relu(-x), it is the negative gradient that passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


class GuidedRule:
    """Switches the rule on and off for the rectifiers of one pass."""

    def __init__(self) -> None:
        self._on = False

    def attach(self, nodes: Mapping[int, tuple[Any, int]], signs: Mapping[int, int]) -> None:
        """Gives the backward steps of rectifiers the rule.

        Args:
            nodes: By the number of an operator, its backward step and which result of the operator.
            signs: By the number of an operator, the sign of the rectifier that it completes.
        """
        for number, (node, position) in nodes.items():
            node.register_prehook(self._hook(position, signs[number]))

    def _hook(self, position: int, sign: int) -> Callable[[Any], Any]:
        def hook(gradients: tuple[torch.Tensor | None, ...]) -> tuple[torch.Tensor | None, ...] | None:
            gradient = gradients[position]
            if not self._on or gradient is None:
                return None
            passing = torch.clamp(gradient, min=0) if sign > 0 else torch.clamp(gradient, max=0)
            return (*gradients[:position], passing, *gradients[position + 1 :])

        return hook

    @contextmanager
    def on(self) -> Iterator[None]:
        """Makes gradients that are taken inside this context follow the rule."""
        self._on = True
        try:
            yield
        finally:
            self._on = False
