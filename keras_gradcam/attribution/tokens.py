"""Tokens of transformers: which layers make them, and which of them are worth explaining."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from ..engine.base import LayerOutput
from ..grids import token_grid

# A grid of fewer tokens shows nothing, and a handful of vectors may look like one.
_FEWEST_TOKENS = 9

# So many layers of tokens are named as candidates.
_CANDIDATES = 3

# Layers that only lay out anew what they are given.
_LAYOUTS = ("Reshape", "Permute", "Flatten")


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
    """What a transformer makes of the feature map that :func:`choose_layer` chose by itself, or None without one.

    Its choice is then a patch embedding, or the features that a convolutional stem hands to the transformer.

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
    # Where the map is pooled into a vector it ends; what looks like tokens after that are parts of the vector.
    way = list(itertools.takewhile(lambda layer_output: not _is_vector(layer_output), following))
    tokens = [layer_output for layer_output in _tokens(way, shape) if layer_output.inputs == (explained,)]
    # Cells that are laid out anew, or of which each is seen by itself (a dense layer), are still those of the map.
    attended = any(_attends(layer_output) and layer_output.inputs == (explained,) for layer_output in way)
    learned = any(_learns(layer_output) and not _holds(layer_output, chosen) for layer_output in tokens)
    if not attended and not (learned and sum(_normalizes(layer_output) for layer_output in tokens) > 1):
        return None
    candidates = _candidates(tokens, way)
    return Tokens(len(tokens), candidates) if candidates else None


def _attends(layer_output: LayerOutput) -> bool:
    return "attention" in layer_output.info.layer_type.lower()


def _normalizes(layer_output: LayerOutput) -> bool:
    kind = layer_output.info.layer_type.lower()
    return "norm" in kind and "batch" not in kind


def _is_per_sample(layer_output: LayerOutput) -> bool:
    return layer_output.info.output_shape[:1] == (None,)


def _learns(layer_output: LayerOutput) -> bool:
    return bool(getattr(layer_output.layer, "weights", ())) and not _normalizes(layer_output)


def _holds(outer: LayerOutput, inner: LayerOutput) -> bool:
    return inner.info.path.startswith(outer.info.path + "/")


def _is_vector(layer_output: LayerOutput) -> bool:
    """Whether it is a vector for each picture, on the way to the score."""
    return len(layer_output.info.output_shape) < 3 and layer_output.influences_score


def _tokens(layer_outputs: Sequence[LayerOutput], shape: Sequence[int]) -> list[LayerOutput]:
    """Those that made tokens which lie on a grid and influence the score."""
    made: dict[int, LayerOutput] = {}
    for layer_output in layer_outputs:
        if (
            _cells(layer_output, shape) >= _FEWEST_TOKENS
            and layer_output.influences_score
            and _is_per_sample(layer_output)
        ):
            made.setdefault(id(layer_output.output), layer_output)
    return list(made.values())


def _candidates(tokens: Sequence[LayerOutput], way: Sequence[LayerOutput]) -> tuple[str, ...]:
    """Paths of the tokens to explain, best first: the last normalisations before the last attentions."""
    attentions = [layer_output for layer_output in way if _attends(layer_output)]
    # An attention may be a layer around another one.
    inmost = [one for one in attentions if not any(_holds(one, other) for other in attentions)]
    changed = [layer_output for layer_output in tokens if layer_output.info.layer_type not in _LAYOUTS]
    outside = [layer_output for layer_output in changed if not any(_holds(one, layer_output) for one in inmost)]
    norms = [layer_output for layer_output in outside if _normalizes(layer_output)]
    before = [[layer_output for layer_output in outside if way.index(layer_output) < way.index(one)] for one in inmost]
    found = [([one for one in earlier if one in norms] or earlier)[-1] for earlier in before if earlier]
    # Attention that goes by another name: each block has two normalisations, and another one may stand at the end.
    found = found or norms[-3::-2][::-1] or (norms or outside or changed)[:1]
    return tuple(dict.fromkeys(layer_output.info.path for layer_output in reversed(found)))[:_CANDIDATES]


def _cells(layer_output: LayerOutput, shape: Sequence[int]) -> int:
    """How many tokens lie on a grid; 0 if none do."""
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
