"""The trust report: the cheap checks of maps in one table, each beside what a random map would get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer
from ..attribution.explanation import Explanation
from ..attribution.layers import LayerLike
from ..attribution.methods.names import CAMS
from ..attribution.targets.base import TargetLike
from ..drawing.notebook import table
from ..engine.base import Structure
from ..errors import check_whole_number
from ..grids import Spans, upsample
from .faithfulness import deletion, insertion, masked_confidence
from .randomization import explainer_for, randomization_check
from .regions import Region, mass_inside, pointing_game
from .scoring import fixed_target
from .statistics import PerSample, informative, maps_of

# Steps of the deletion and insertion curves: enough to tell a good map from a random one; more only smooth the curve.
_STEPS = 10

# How many layers are randomized. The last ones already tell whether a map depends on them, at one pass per layer.
_DEPTH = 3

# Random maps for the checks of location, which run no model and so cost next to nothing.
_DRAWS = 20


@dataclass(frozen=True)
class Check:
    """One row of the table.

    Attributes:
        name: What was measured.
        value: The mean over the samples; NaN if all are missing.
        random: What maps with the same values at shuffled places get; NaN where that makes no sense.
        missing: How many samples have no number.
        reading: Which direction is good, and why, in words.
    """

    name: str
    value: float
    random: float
    missing: int
    reading: str


@dataclass(frozen=True, repr=False)
class TrustReport:
    """What the checks found; printed as a Markdown table.

    Attributes:
        method: The method that made the maps.
        layer: Path of the explained layer, or None where the method has none.
        samples: The number of pictures.
        checks: The rows.
    """

    method: str
    layer: str | None
    samples: int
    checks: tuple[Check, ...]

    def __getitem__(self, name: str) -> Check:
        for check in self.checks:
            if check.name == name:
                return check
        names = ", ".join(repr(check.name) for check in self.checks)
        raise KeyError(f"`name` must name a check. Received: {name!r}. Candidates: {names}.")

    def table(self) -> str:
        """Writes the checks as a Markdown table."""
        rows = [
            [
                check.name.replace("|", " "),
                _number(check.value),
                _number(check.random),
                str(check.missing),
                check.reading,
            ]
            for check in self.checks
        ]
        return table(["check", "these maps", "random maps", "missing", "how to read it"], rows) + "\n"

    def __str__(self) -> str:
        return f"{self.method}{f' of {self.layer}' if self.layer else ''}, {self.samples} pictures\n\n{self.table()}"

    def _repr_markdown_(self) -> str:
        """Shows the table in notebooks."""
        return str(self)

    def __repr__(self) -> str:
        return f"TrustReport({self.method}, {self.samples} pictures, {len(self.checks)} checks)"


def trust_report(
    model: Explainer | Any,
    images: Structure,
    *,
    target: TargetLike = None,
    regions: Sequence[Region] | np.ndarray | None = None,
    layer: LayerLike = None,
    method: str = "gradcam",
    seed: int = 0,
) -> TrustReport:
    """Runs the cheap checks on the maps of some pictures.

    Faithfulness (average drop, increase in confidence, deletion, insertion), dependence on what was learned (the last
    three layers randomized one after another), maps that are empty, and, with regions, the pointing game and the mass
    inside. The random maps beside them are the same maps with the cells of their own grid shuffled: equally strong and
    equally coarse, but elsewhere. Scores are probabilities where the target has a class. Takes some 50
    forward passes and 5 explanations of all pictures; weights are randomized and restored bit for bit, see
    :func:`~keras_gradcam.metrics.randomization_check`.

    Args:
        model: A Keras model, or an :class:`~keras_gradcam.Explainer` with its own layer and target.
        images: The pictures, N samples of what the model takes; some dozens give steady numbers.
        target: What to explain: the labels (N,), a class, any target; by default the predicted classes.
        regions: Where the objects are: one box (x0, y0, x1, y1) in pixels or one mask (H, W) per sample.
        layer: The layer to explain; not beside an explainer.
        method: One of the names that ``Explainer(methods=...)`` takes. Of maps with channels the absolute values are
            summed over the channels.
        seed: Seeds all shuffling.

    Returns:
        The :class:`TrustReport`; ``print`` it, or take a row by its name: ``report["deletion AUC"].value``.

    Raises:
        ArgumentError: If the arguments do not fit each other or the model.

    Example:
        >>> import keras, numpy as np
        >>> keras.utils.set_random_seed(0)
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        >>> report = trust_report(model, np.random.default_rng(0).normal(size=(4, 8, 8, 3)), target=[0, 1, 0, 1])
        >>> [check.name for check in report.checks][:4]
        ['average drop', 'increase in confidence', 'deletion AUC', 'insertion AUC']

    Source: Chattopadhay et al. 2018, https://arxiv.org/abs/1710.11063; Petsiuk et al. 2018,
    https://arxiv.org/abs/1806.07421; Adebayo et al. 2018, https://arxiv.org/abs/1810.03292; Zhang et al. 2016,
    https://arxiv.org/abs/1608.00507; Wang et al. 2020, https://arxiv.org/abs/1910.01279.
    """
    check_whole_number("seed", seed, 0)
    explainer, images = explainer_for(model, method, layer=layer).prepared(images)
    chosen = fixed_target(explainer, images, target)
    explanation = explainer(images, chosen)
    maps, grid = _maps(explanation, method)
    checks = _compared_with_random(explainer, images, chosen, maps, regions, grid, np.random.default_rng(seed))
    checks += _dependence(explainer, images, chosen, method, seed)
    empty = float((~informative(maps)).mean())
    checks.append(Check("empty maps", empty, np.nan, 0, "0 is best; the share of maps that say nothing"))
    return TrustReport(method, explanation.layer, len(maps), tuple(checks))


def _compared_with_random(
    explainer: Explainer,
    images: Structure,
    target: TargetLike,
    maps: np.ndarray,
    regions: Sequence[Region] | np.ndarray | None,
    grid: _Grid,
    rng: np.random.Generator,
) -> list[Check]:
    """Runs the checks that compare maps with random ones: faithfulness and, with regions, location."""
    shuffled = _shuffled(maps, rng)
    checks = _faithfulness(explainer, images, target, grid.on_input(maps), grid.on_input(shuffled))
    if regions is not None:
        draws = [shuffled, *(_shuffled(maps, rng) for _ in range(_DRAWS - 1))]
        checks += _location(maps, draws, regions, grid)
    return checks


def _faithfulness(explainer: Explainer, images: Structure, target: Any, maps: Any, shuffled: Any) -> list[Check]:
    """Measures how the score changes when pixels are removed or kept by these maps, and by shuffled ones."""
    ours, random = (masked_confidence(explainer, images, stack, target=target) for stack in (maps, shuffled))

    def area(curve: Callable[..., Any], stack: np.ndarray) -> PerSample:
        return curve(explainer, images, stack, target=target, steps=_STEPS).auc

    return [
        _check("average drop", ours.drop, random.drop, "lower is better: what the map shows alone keeps the score"),
        _check(
            "increase in confidence",
            ours.increase,
            random.increase,
            "higher is better: the share of pictures whose score rises when the rest is hidden",
        ),
        _check(
            "deletion AUC",
            area(deletion, maps),
            area(deletion, shuffled),
            "lower than random is good: the score falls fast when what the map shows is removed",
        ),
        _check(
            "insertion AUC",
            area(insertion, maps),
            area(insertion, shuffled),
            "higher than random is good: the score rises fast when what the map shows appears",
        ),
    ]


def _location(maps: np.ndarray, draws: Sequence[np.ndarray], regions: Any, grid: _Grid) -> list[Check]:
    """Measures whether the maps, and random draws, point to the regions."""
    # The paper's 15 pixels are more than a small picture has to spare.
    spans = grid.spans or ((0.0, 1.0),) * 2
    parts = [(end - start) * extent for (start, end), extent in zip(spans, grid.size, strict=True)]
    half_a_cell = max(part / cells for part, cells in zip(parts, maps.shape[1:], strict=True)) / 2

    def pointing(stack: np.ndarray) -> PerSample:
        return pointing_game(stack, regions, grid.size, half_a_cell, grid.spans)

    def inside(stack: np.ndarray) -> PerSample:
        return mass_inside(stack, regions, grid.size, grid.spans)

    def random(game: Callable[[np.ndarray], PerSample]) -> PerSample:
        return PerSample(np.concatenate([game(stack).values for stack in draws]))

    return [
        _check(
            "pointing game",
            pointing(maps),
            random(pointing),
            "higher is better: the share of maps whose strongest cell touches the object",
        ),
        _check(
            "mass inside",
            inside(maps),
            random(inside),
            "higher is better: the share of the map on the object; random is its share of the area",
        ),
    ]


def _dependence(explainer: Explainer, images: Structure, target: Any, method: str, seed: int) -> list[Check]:
    """Measures how much the maps still resemble the original ones when the last layers are randomized."""
    randomization = randomization_check(explainer, images, method=method, target=target, depth=_DEPTH, seed=seed)
    rows = zip(randomization.layers, randomization.correlations, strict=True)
    reading = "near 0 is good, missing are maps that became empty; near 1: the map ignores what these layers learned"
    return [
        replace(_check(f"randomized down to {path}", PerSample(row), PerSample(np.zeros(0)), reading), random=0.0)
        for path, row in rows
    ]


def _check(name: str, numbers: PerSample, random: PerSample, reading: str) -> Check:
    return Check(name, numbers.mean, random.mean, numbers.missing, reading)


@dataclass(frozen=True)
class _Grid:
    """Where maps lie on the input.

    Attributes:
        size: Height and width of the input.
        spans: As in :class:`keras_gradcam.grids.Placement`; None for all of it.
    """

    size: tuple[int, ...]
    spans: Spans = None

    def on_input(self, maps: np.ndarray) -> np.ndarray:
        """Returns maps at the size of the input where they lie on a part of it; others as they are."""
        return maps if self.spans is None else upsample(maps, self.size, self.spans)


def _maps(explanation: Explanation, method: str) -> tuple[np.ndarray, _Grid]:
    """Returns maps >= 0 (N, h, w) on their own grid, and where they lie on the input."""
    maps = explanation.drawn_maps()[method]
    if method in CAMS:
        assert explanation.pictures is not None
        stack, size = maps_of(maps, explanation.pictures.shape[1:3])
        placement = explanation.placement
        return stack, _Grid(size, None if placement is None or placement.is_whole else placement.spans)
    maps = np.abs(maps)
    stack, size = maps_of(maps.sum(axis=-1) if maps.ndim == 4 else maps)
    return stack, _Grid(size)


def _shuffled(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns random maps: the same values, with the cells of each map shuffled."""
    flat = maps.reshape(len(maps), -1)
    return rng.permuted(flat, axis=1).reshape(maps.shape)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"
