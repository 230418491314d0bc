"""Ways from the input to the score that go around the automatically chosen layer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ..engine.base import LayerOutput


def other_branches(
    chosen: LayerOutput, candidates: Sequence[LayerOutput], layer_outputs: Sequence[LayerOutput]
) -> list[str]:
    """Returns the last feature maps of the ways that lead around a layer.

    A connection from an earlier map of the same network, as residual and U-shaped networks have them, is none: the
    chosen map is computed from that map too.

    Args:
        chosen: The layer.
        candidates: The feature maps that influence the score, the chosen one among them.
        layer_outputs: All calls.

    Returns:
        Paths, in the order in which the model computes them.
    """
    position = next(at for at, layer_output in enumerate(layer_outputs) if layer_output is chosen)
    places = {id(layer_output): at for at, layer_output in enumerate(layer_outputs)}
    beside = [
        layer_output
        for layer_output in candidates
        if layer_output is not chosen
        and places[id(layer_output)] not in chosen.computed_from
        and position not in layer_output.computed_from
    ]
    passed = frozenset().union(*(layer_output.computed_from for layer_output in beside))
    return [layer_output.info.path for layer_output in beside if places[id(layer_output)] not in passed]


def warn_about_branches(chosen: str, others: Sequence[str]) -> None:
    """Warns that the score is also computed from feature maps of which the chosen one knows nothing.

    Args:
        chosen: Path of the chosen layer.
        others: Paths of the last maps of the other ways.
    """
    names = ", ".join(repr(path) for path in (*others, chosen))
    warnings.warn(
        f"layer={chosen!r} was chosen, but the score is also computed from {', '.join(map(repr, others))}, which the "
        "map knows nothing of. Name the layer to explain, or explain all of them with "
        f"Explainer.at_layers(images, [{names}]).",
        UserWarning,
        stacklevel=7,
    )
