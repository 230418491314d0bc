"""The model parameter randomization test of Adebayo et al. 2018: whether a map depends on what the model has learned.

Weights are randomized by shuffling the entries of each tensor, rather than by drawing them from N(0, std of the
weights): each tensor keeps exactly its values, so variances stay positive, activations keep their scale (a network that
dies or overflows would give empty maps, which say nothing about the method), and any dtype can be shuffled. Nothing
depends on Keras' initializers, nor on any random state but the ``seed``'s own. The model gets its weights back bit for
bit, also after an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer, as_explainer
from ..attribution.explanation import Explanation
from ..attribution.inputs import input_spec_of
from ..attribution.methods.names import METHODS
from ..attribution.targets.base import TargetLike
from ..engine import current_engine
from ..engine.base import Structure
from ..errors import check_choice, check_whole_number
from .drift import rank_correlation
from .scoring import fixed_target
from .statistics import mean_of_present

#: How layers are randomized: each on top of those above it, or each alone.
_ORDERS = ("cascading", "independent")


@dataclass(frozen=True, eq=False, repr=False)
class Randomization:
    """How similar maps are to the original ones when layers are randomized.

    Attributes:
        method: The method that made the maps.
        order: "cascading" or "independent".
        layers: Paths of the L randomized layers, from the model's end to its beginning.
        correlations: float64 (L, N), rank correlation of each sample's map with its original, -1 to 1; NaN where one
            of the two is missing, and for a layer on which no sample's score depends.
    """

    method: str
    order: str
    layers: tuple[str, ...]
    correlations: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The mean over the samples that have a correlation, float64 (L,); NaN if none has."""
        return np.array([mean_of_present(row)[0] for row in self.correlations], np.float64)

    @property
    def missing(self) -> np.ndarray:
        """The number of samples without a correlation, int (L,)."""
        return np.isnan(self.correlations).sum(axis=1)

    def table(self) -> str:
        """Writes the means as a Markdown table, one row per layer."""
        first = "randomized down to" if self.order == "cascading" else "randomized"
        lines = [f"| {first} | rank correlation | missing of {self.correlations.shape[1]} |", "|---|---|---|"]
        for layer, mean, missing in zip(self.layers, self.mean, self.missing, strict=True):
            lines.append(f"| {layer.replace('|', ' ')} | {'-' if np.isnan(mean) else f'{mean:.2f}'} | {missing} |")
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        return f"Randomization({self.method}, {self.order}, {len(self.layers)} layers)"


def randomization_check(
    model: Explainer | Any,
    images: Structure,
    *,
    method: str = "gradcam",
    order: str = "cascading",
    target: TargetLike = None,
    depth: int | None = None,
    seed: int = 0,
) -> Randomization:
    """Randomizes the layers from the model's end to its beginning and compares the maps with the original ones.

    A map that stays the same (correlation near 1) although the learned weights are gone does not show what the model
    has learned. A map that becomes empty has changed too, but has no correlation: look at ``missing`` as well. One
    shuffling is one draw; other seeds tell how much depends on it.

    Maps are compared by Spearman's rank correlation over all values, signed ones by their absolute values, as in the
    paper. The class is the one predicted by the original model. Layers count from the last called; skipped are those
    that learn nothing (preprocessing) and those whose shuffled weights would be the same (a new batch normalization).
    Weights whose use cannot be seen (the model's own, or of layers called inside a loop) come first, together, by the
    model's name. All steps share one compiled explainer.

    Args:
        model: A Keras model, whose weights are changed and restored bit for bit, also after an error or Ctrl-C; or an
            :class:`~keras_gradcam.Explainer`, whose layer, target and batch size are used. Must not be trained or
            called elsewhere meanwhile.
        images: The pictures, N samples of what the model takes.
        method: One of the names that ``Explainer(methods=...)`` takes; of an explainer, one that it computes.
        order: "cascading", each layer together with all above it, or "independent", each alone.
        target: What to explain, by default the explainer's target, the predicted class.
        depth: How many layers to randomize, from the end; None for all.
        seed: Seeds the shuffling; a layer is shuffled in the same way in both orders and at any depth.

    Returns:
        The :class:`Randomization`.

    Raises:
        ArgumentError: If an argument is none of these.

    Example:
        >>> import keras, numpy as np
        >>> keras.utils.set_random_seed(0)
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, name="classes")])
        >>> check = randomization_check(model, np.random.default_rng(0).normal(size=(4, 8, 8, 3)))
        >>> check.layers, check.correlations.shape
        (('classes', 'conv'), (2, 4))

    Source: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, https://arxiv.org/abs/1810.03292.
    """
    _check_options(order, depth, seed)
    explainer, images = explainer_for(model, method).prepared(images)
    chosen = fixed_target(explainer, images, target)
    layers = learned_layers(explainer.model, images)[:depth]
    weights = [variables for _, variables in layers]
    correlations = _correlations(lambda: explainer(images, chosen), weights, method, order, int(seed))
    return Randomization(method, order, tuple(path for path, _ in layers), correlations)


def _correlations(
    explained: Callable[[], Explanation], layers: Sequence[list[Any]], method: str, order: str, seed: int
) -> np.ndarray:
    """Randomizes the variables of each layer, restores them, and returns the correlations, float64 (L, N)."""
    original = explained()
    expected, scores = _comparable(original, method), original.scores
    rows = []
    with restored([variable for variables in layers for variable in variables]) as restore:
        for index, variables in enumerate(layers):
            if order == "independent":
                restore()
                scores = original.scores
            shuffle(variables, np.random.default_rng([seed, index]))
            randomized = explained()
            takes_part = not np.array_equal(randomized.scores, scores, equal_nan=True)
            rows.append(rank_correlation(expected, _comparable(randomized, method)) + (0 if takes_part else np.nan))
            scores = randomized.scores
    return np.array(rows, np.float64).reshape(len(layers), len(expected))


def explainer_for(model: Explainer | Any, method: str, **options: Any) -> Explainer:
    """Returns the explainer itself if it computes ``method``, or one of a model for that method.

    Raises:
        ArgumentError: If there is no such method, or the explainer does not compute it.
    """
    methods = model.methods if isinstance(model, Explainer) else METHODS
    what = "the explainer computes" if isinstance(model, Explainer) else "is known"
    check_choice("method", method, methods, f"be one that {what}")
    return as_explainer(model, methods=(method,), **options)


def learned_layers(model: Any, images: Structure) -> list[tuple[str, list[Any]]]:
    """Lists paths and weights of the layers that have learned something, the last called first.

    The weights of a layer are its own and the weights of layers inside it whose calls cannot be seen; weights of the
    model and of no layer come first, by the model's name. The weights of a shared layer appear once, at its last call.
    """
    layer_outputs = current_engine().layer_calls(model, input_spec_of(images))
    seen = {id(layer_output.layer) for layer_output in layer_outputs}
    assigned: set[int] = set()
    last: dict[int, tuple[str, list[Any]]] = {}
    # Calls end from the inside out, so that an unseen layer belongs to the innermost seen one around it.
    for layer_output in layer_outputs:
        key = id(layer_output.layer)
        if key not in last:
            inside = [part for part in layer_output.layer._flatten_layers() if id(part) not in seen or id(part) == key]
            new = [part for part in inside if id(part) not in assigned]
            assigned.update(map(id, new))
            last[key] = (layer_output.info.path, [variable for part in new for variable in _learned(part)])
        else:
            last[key] = last.pop(key)
    # What the outermost model owns itself, and layers called where nobody sees them; where it uses them is not known.
    rest = [part for part in model._flatten_layers() if id(part) not in seen | assigned]
    own = model.name, [variable for part in rest for variable in _learned(part)]
    return [(path, variables) for path, variables in (own, *reversed(last.values())) if variables]


@contextmanager
def restored(variables: list[Any]) -> Iterator[Any]:
    """Restores the values that variables have now, on the way out and whenever the yielded function is called."""
    saved = [(variable, _value(variable)) for variable in variables]

    def restore() -> None:
        for variable, value in saved:
            variable.assign(value)

    try:
        yield restore
    finally:
        _to_the_end(restore)


def shuffle(variables: list[Any], rng: np.random.Generator) -> None:
    """Shuffles the entries of each variable; never into the order they had."""
    for variable in variables:
        value = _value(variable)
        shuffled = rng.permutation(value.ravel()).reshape(value.shape)
        while np.array_equal(shuffled, value) and not _same_everywhere(value):
            shuffled = rng.permutation(value.ravel()).reshape(value.shape)
        variable.assign(shuffled)


def _to_the_end(action: Any) -> None:
    """Runs ``action`` to its end, again if Ctrl-C interrupts it, which takes effect afterwards."""
    interruption = None
    while True:
        try:
            action()
            break
        except KeyboardInterrupt as error:
            interruption = error
    if interruption is not None:
        raise interruption


def _learned(layer: Any) -> list[Any]:
    """Returns the weights that a layer owns itself, if it can be trained and shuffling would change it."""
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    changing = any(not _same_everywhere(_value(variable)) for variable in own)
    return own if layer._trainable_variables and changing else []


def _value(variable: Any) -> np.ndarray:
    """Copies the value of a variable: the backend may hand out the variable's own memory."""
    from keras import ops

    return np.array(ops.convert_to_numpy(variable))


def _same_everywhere(value: np.ndarray) -> bool:
    return value.size < 2 or bool((value == value.ravel()[0]).all() or np.isnan(value).all())


def _comparable(explanation: Explanation, method: str) -> np.ndarray:
    """Returns maps (N, 1, values) that :func:`rank_correlation` compares; signed ones without their signs."""
    maps = explanation.maps[method]
    return np.abs(maps).reshape(len(maps), 1, -1)


def _check_options(order: str, depth: int | None, seed: int) -> None:
    check_choice("order", order, _ORDERS, "say how layers are randomized")
    check_whole_number("depth", 1 if depth is None else depth, 1)
    check_whole_number("seed", seed, 0)
