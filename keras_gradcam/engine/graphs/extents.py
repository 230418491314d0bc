"""Sizes for inputs whose extents a model leaves free, for engines that trace a model with one size at a time."""

from __future__ import annotations

from dataclasses import replace

from ..base import InputSpec, LayerOutput

# Networks halve their maps, some of them five times.
_EXTENTS = (96, 160)


def with_extents(input_spec: InputSpec) -> list[InputSpec]:
    """Returns the inputs in two sizes, where the model leaves extents of theirs free, so that these can be told."""
    if all(extent is not None for shape, _ in input_spec.leaves for extent in shape):
        return [input_spec]
    return [
        replace(
            input_spec,
            leaves=tuple(
                (tuple(size if extent is None else extent for extent in shape), dtype)
                for shape, dtype in input_spec.leaves
            ),
        )
        for size in _EXTENTS
    ]


def common_shape(first: LayerOutput, *others: LayerOutput) -> LayerOutput:
    """Returns a layer's output with None for what was not the same in all passes."""
    shapes = zip(*(output.info.output_shape for output in (first, *others)), strict=True)
    shape = tuple(extents[0] if len(set(extents)) == 1 else None for extents in shapes)
    return replace(first, info=replace(first.info, output_shape=shape))
