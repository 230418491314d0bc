"""Tokens of transformers: which layers make them, and which of them are worth explaining."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from ..engine.base import LayerOutput
from ..grids import token_grid

# Minimum number of tokens: a grid of fewer shows nothing, and a handful of vectors may look like one.
_MIN_TOKENS = 9

# Maximum number of layers that are named as candidates.
_MAX_CANDIDATES = 3

#: Layers that rearrange their input and compute nothing.
LAYOUTS = ("Reshape", "Permute", "Flatten")


@dataclass(frozen=True)
class Tokens:
    """Tokens on the way from a feature map to the score.

    Attributes:
        layers: How many layers make them.
        candidates: Paths of those worth explaining, best first.
    """

    layers: int
    candidates: tuple[str, ...]


def tokens_after(
    chosen: LayerOutput, layer_outputs: Sequence[LayerOutput], shape: Sequence[int], explained: int = 0
) -> Tokens | None:
    """Finds the tokens that a transformer makes of the automatically chosen feature map; None without a transformer.

    With a transformer, :func:`keras_gradcam.attribution.layers.choose_layer` has chosen a patch embedding, or the
    features that a convolutional stem hands to the transformer.

    Candidates are the last normalisations before an attention, where every token still counts. A score that is read
    from a class token depends on no other token after the last attention, so that maps are empty there.

    Args:
        chosen: The choice.
        layer_outputs: All layer calls, in the order of execution.
        shape: Shape of the explained input without the batch.
        explained: Index of the explained input.
    """
    computed = [layer_output for layer_output in layer_outputs if explained in layer_output.inputs]
    following = computed[computed.index(chosen) + 1 :] if chosen in computed else []
    # The map ends where it is pooled into a vector; what looks like tokens after that are parts of the vector.
    path = list(itertools.takewhile(lambda layer_output: not _is_vector(layer_output), following))
    tokens = [layer_output for layer_output in token_outputs(path, shape) if layer_output.inputs == (explained,)]
    # Cells that are rearranged, or transformed one by one (by a dense layer), are still the cells of the map.
    attended = any(is_attention(layer_output) and layer_output.inputs == (explained,) for layer_output in path)
    learned = any(_learns(layer_output) and not _contains(layer_output, chosen) for layer_output in tokens)
    if not attended and not (learned and sum(_is_normalization(layer_output) for layer_output in tokens) > 1):
        return None
    candidates = token_candidates(tokens, path)
    return Tokens(len(tokens), candidates) if candidates else None


def is_attention(layer_output: LayerOutput) -> bool:
    """Returns whether the layer is an attention, by the name of its class."""
    return "attention" in layer_output.info.layer_type.lower()


def is_per_sample(layer_output: LayerOutput) -> bool:
    """Returns whether the first axis is the batch, and no other axis is laid into it."""
    return layer_output.info.output_shape[:1] == (None,)


def token_outputs(layer_outputs: Sequence[LayerOutput], shape: Sequence[int]) -> list[LayerOutput]:
    """Returns the calls that made tokens which lie on a grid over the input and influence the score.

    Args:
        layer_outputs: Layer calls, in the order of execution.
        shape: Shape of the explained input without the batch.
    """
    first_with_output: dict[int, LayerOutput] = {}
    for layer_output in layer_outputs:
        is_grid = _count_tokens(layer_output, shape) >= _MIN_TOKENS
        if is_grid and layer_output.influences_score and is_per_sample(layer_output):
            first_with_output.setdefault(id(layer_output.output), layer_output)
    return list(first_with_output.values())


def token_candidates(tokens: Sequence[LayerOutput], path: Sequence[LayerOutput]) -> tuple[str, ...]:
    """Returns the paths of the tokens to explain, best first: the last normalisations before the last attentions.

    Args:
        tokens: Calls that made tokens.
        path: All calls from the feature map to the score, in the order of execution.
    """
    attentions = [layer_output for layer_output in path if is_attention(layer_output)]
    # An attention may be a layer around another one.
    innermost = [outer for outer in attentions if not any(_contains(outer, inner) for inner in attentions)]
    changed = [layer_output for layer_output in tokens if layer_output.info.layer_type not in LAYOUTS]
    outside = [token for token in changed if not any(_contains(attention, token) for attention in innermost)]
    norms = [layer_output for layer_output in outside if _is_normalization(layer_output)]
    candidates = []
    for attention in innermost:
        before = [token for token in outside if path.index(token) < path.index(attention)]
        candidates += ([token for token in before if token in norms] or before)[-1:]
    # Attention that goes by another name: each block has two normalisations, and another one may stand at the end.
    candidates = candidates or norms[-3::-2][::-1] or (norms or outside or changed)[:1]
    return tuple(dict.fromkeys(layer_output.info.path for layer_output in reversed(candidates)))[:_MAX_CANDIDATES]


def _is_normalization(layer_output: LayerOutput) -> bool:
    layer_type = layer_output.info.layer_type.lower()
    return "norm" in layer_type and "batch" not in layer_type


def _learns(layer_output: LayerOutput) -> bool:
    return bool(getattr(layer_output.layer, "weights", ())) and not _is_normalization(layer_output)


def _contains(outer: LayerOutput, inner: LayerOutput) -> bool:
    return inner.info.path.startswith(outer.info.path + "/")


def _is_vector(layer_output: LayerOutput) -> bool:
    """Returns whether the output is one vector per sample, on the way to the score."""
    return len(layer_output.info.output_shape) < 3 and layer_output.influences_score


def _count_tokens(layer_output: LayerOutput, shape: Sequence[int]) -> int:
    """Counts the tokens that lie on a grid over the input; 0 if none do."""
    grid = token_grid(layer_output.info.output_shape, shape[:-1])
    return 0 if grid is None else math.prod(grid)


def warn_about_tokens(path: str, layer_outputs: Sequence[LayerOutput], shape: Sequence[int], explained: int) -> None:
    """Warns where the feature map that is explained without being named goes into a transformer.

    Args:
        path: Of the layer that was chosen.
        layer_outputs: All layer calls, in the order of execution.
        shape: Shape of the explained input without the batch.
        explained: Index of the explained input.
    """
    chosen = [layer_output for layer_output in layer_outputs if layer_output.info.path == path][-1]
    tokens = tokens_after(chosen, layer_outputs, shape, explained)
    if tokens is None:
        return
    candidates = ", ".join(f"layer={candidate!r}" for candidate in tokens.candidates)
    warnings.warn(
        f"Without a `layer` the map of {path!r} is explained, which goes into a transformer (layers of tokens that "
        f"follow it: {tokens.layers}). Candidates: {candidates}. Compare their maps, since a token may carry what lies "
        "elsewhere; after the last attention maps are empty where the score is read from a class token.",
        UserWarning,
        stacklevel=4,
    )
