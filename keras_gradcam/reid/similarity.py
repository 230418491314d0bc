"""Why two pictures match: the similarity of their embeddings, taken apart over pairs of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer, as_explainer
from ..attribution.explanation import warn_about_infinities
from ..attribution.layers import LayerLike
from ..attribution.placement import placement_of
from ..attribution.targets.embeddings import SelfSimilarity, Similarity
from ..engine.base import Split, Structure
from ..errors import ArgumentError, check_choice, check_whole_number
from ..grids import Spans

# The most numbers of masked feature maps that go through the head at a time.
_MAX_NUMBERS = 8_000_000

# How far the contributions of the cells may miss an embedding by rounding, in 32 and in 16 bits: as a share of what the
# cells add, and as a share of what the head adds to every picture.
_ROUNDING = {"float32": (1e-3, 1e-5), "half": (5e-2, 2e-2)}


@dataclass(frozen=True, eq=False, repr=False)
class SimilarityMaps:
    """Why N pairs of pictures match. Indexing and slicing give those pairs; an integer keeps the batch axis.

    Attributes:
        similarity: float32 (N,), the cosine of the two embeddings.
        map_a: float32 (N, h, w), what each cell of the first picture adds; sums to the similarity in the exact form.
        map_b: float32 (N, h', w'), the same for the second picture.
        matrix: float32 (N, h, w, h', w'), what each pair of cells adds; None in the gradient form.
        layer: Path of the layer whose cells these are.
        spans_a: Where the cells lie on the first picture, see :class:`keras_gradcam.grids.Placement`; None over all.
        spans_b: The same for the second picture.
    """

    similarity: np.ndarray
    map_a: np.ndarray
    map_b: np.ndarray
    matrix: np.ndarray | None
    layer: str | None
    spans_a: Spans = None
    spans_b: Spans = None

    def __len__(self) -> int:
        return len(self.similarity)

    def __getitem__(self, index: Any) -> SimilarityMaps:
        if isinstance(index, (int, np.integer)):
            position = range(len(self))[index]
            index = slice(position, position + 1)
        return SimilarityMaps(
            self.similarity[index],
            self.map_a[index],
            self.map_b[index],
            None if self.matrix is None else self.matrix[index],
            self.layer,
            self.spans_a,
            self.spans_b,
        )

    def __repr__(self) -> str:
        grids = f"{self.map_a.shape[1:]} to {self.map_b.shape[1:]}"
        return f"SimilarityMaps({len(self)} pairs, layer={self.layer!r}, cells {grids})"

    def point(self, row: int, column: int) -> np.ndarray:
        """Returns where in the second picture one cell of the first finds its match.

        Args:
            row: The row of the cell, counted on the grid of ``map_a``.
            column: The column of the cell.

        Returns:
            float32 (N, h', w'), what the cell adds to the similarity together with each cell of the second picture.

        Raises:
            ArgumentError: If the maps are of the gradient form, or there is no such cell.

        Source: Zhu et al., Visual Explanation for Deep Metric Learning, 2019, https://arxiv.org/abs/1909.12977.
        """
        matrix = self._matrix("point")
        height, width = matrix.shape[1:3]
        if row not in range(-height, height) or column not in range(-width, width):
            raise ArgumentError(
                "row", f"be, with `column`, a cell on the grid of {height} x {width} cells", f"{row}, {column}"
            )
        return matrix[:, row, column]

    def matches(self, count: int = 5, once: bool = False) -> list[list[tuple[tuple[int, int], tuple[int, int], float]]]:
        """Returns the pairs of cells that add most, strongest first.

        Args:
            count: How many.
            once: Whether each cell may belong to one pair only. The strongest pairs are often made of the same few
                cells; this way they spread over what matches.

        Returns:
            For each of the N pairs of pictures ``count`` tuples: cell (row, column) of the first picture, cell of the
            second, and what the two add. Pairs of cells that add nothing are left out.

        Raises:
            ArgumentError: If the maps are of the gradient form, or ``count`` is no whole number >= 0.
        """
        check_whole_number("count", count, 0)
        matrix = self._matrix("matches")
        return [_strongest(pair, count, once) for pair in matrix]

    def _matrix(self, method: str) -> np.ndarray:
        if self.matrix is None:
            raise ArgumentError(method, "have the exact form", "form='gradient'")
        return self.matrix


def _strongest(matrix: np.ndarray, count: int, once: bool) -> list[tuple[tuple[int, int], tuple[int, int], float]]:
    """Returns the entries of (h, w, h', w') that are largest and > 0."""
    matches: list[tuple[tuple[int, int], tuple[int, int], float]] = []
    used_a: set[tuple[int, int]] = set()
    used_b: set[tuple[int, int]] = set()
    for index in np.argsort(-matrix.ravel(), kind="stable"):
        i, j, k, m = (int(number) for number in np.unravel_index(index, matrix.shape))
        if len(matches) == count or not matrix[i, j, k, m] > 0:
            break
        if once and ((i, j) in used_a or (k, m) in used_b):
            continue
        used_a.add((i, j))
        used_b.add((k, m))
        matches.append(((i, j), (k, m), float(matrix[i, j, k, m])))
    return matches


def similarity_maps(
    model: Any, a: Structure, b: Structure, layer: LayerLike = None, form: str = "exact"
) -> SimilarityMaps:
    r"""Divides the cosine similarity of pairs of pictures among the cells of their feature maps.

    For a network that pools its last feature map and then applies nothing or what is linear (dense layers, batch
    normalisation), with a final L2 normalisation or without, the embedding is a sum over cells, :math:`f = \sum_i F_i`,
    and so is the similarity:

    .. math:: M_{ij} = \frac{\langle F_i, G_j \rangle}{|f| |g|} \qquad \sum_{ij} M_{ij} = \cos(f, g)

    What the head adds to every picture (a bias, the shift of a batch normalisation) is spread evenly over the
    cells. That the parts make up the embedding is checked for every picture.

    Args:
        model: A Keras model that returns embeddings, or an :class:`keras_gradcam.Explainer` of it, which names a layer,
            its call, or one of several outputs, and is compiled once.
        a: The first pictures of N pairs, (N, H, W, C); H and W need not be equal.
        b: The second pictures.
        layer: The feature map; by default the last one with spatial extent.
        form: "exact", as above; or "gradient" for any architecture: Grad-CAM of the similarity, on each picture with
            the other one fixed; its maps are >= 0 and do not sum to the similarity, and there is no matrix. The nearer
            the similarity is to 1, the weaker are these maps.

    Returns:
        The :class:`SimilarityMaps`.

    Raises:
        ArgumentError: If the head is not linear and the form is "exact"; if the pictures are not pairs.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((16, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)])
        >>> a, b = np.random.default_rng(0).random((2, 3, 16, 8, 3))
        >>> maps = similarity_maps(model, a, b)
        >>> bool(np.allclose(maps.matrix.sum((1, 2, 3, 4)), maps.similarity, atol=1e-5))
        True

    Source: Stylianou et al., Visualizing Deep Similarity Networks, WACV 2019, https://arxiv.org/abs/1901.00536.
    """
    import keras

    check_choice("form", form, ("exact", "gradient"))
    explainer = as_explainer(model, layer=layer, target=SelfSimilarity(), methods=("gradcam",))
    (explainer, a), (_, b) = [explainer.prepared(pictures) for pictures in (a, b)]
    counts = [len(keras.tree.flatten(pictures)[0]) for pictures in (a, b)]
    if counts[0] != counts[1]:
        raise ArgumentError(
            "b", "have one picture for each of `a`; they must be pairs", f"{counts[0]} and {counts[1]} pictures"
        )
    return _exact_maps(explainer, a, b) if form == "exact" else _gradient_maps(explainer, a, b)


@dataclass(frozen=True, eq=False)
class Parts:
    """Embeddings as sums over cells.

    Attributes:
        cells: float64 (N, h, w, D); over the cells they sum to the embedding.
        embeddings: float64 (N, D), before a final L2 normalisation.
        layer: Path of the layer whose cells these are.
        spans: Where the cells lie on the picture.
    """

    cells: np.ndarray
    embeddings: np.ndarray
    layer: str
    spans: Spans = None


def parts(explainer: Explainer, images: Structure) -> Parts:
    """Takes embeddings apart into what each cell of the feature map contributes.

    Raises:
        ArgumentError: If the head is not linear.
    """
    import keras

    explainer, images = explainer.prepared(images)
    split, flat = explainer.runner.split(images), keras.tree.flatten(images)
    size = explainer.batch_size
    cells, embeddings = [], []
    for start in range(0, len(flat[0]), size):
        features, vectors = split.body([array[start : start + size] for array in flat])
        cells.append(_contributions(split, features, vectors, _compute_dtypes(explainer.model)))
        embeddings.append(vectors.reshape(len(vectors), -1).astype(np.float64))
    placement = placement_of(split.layout)
    return Parts(
        placement.turned(np.concatenate(cells)),
        np.concatenate(embeddings),
        split.layer.path,
        placement.oriented().spans,
    )


def _contributions(split: Split, features: np.ndarray, embeddings: np.ndarray, dtypes: set[str]) -> np.ndarray:
    """Returns what each cell adds to the embedding, (N, *grid, D), with an even share of the constant.

    The embedding with all cells but one at zero, less the embedding of a feature map of zeros, which is the constant.
    """
    grid, first, shape = split.layout.grid, split.layout.first, features.shape[1:]
    count = int(np.prod(grid))
    # Before and after the grid's tokens others may stand (a class token), which belong to no cell.
    tokens = features.reshape(len(features), -1, features.shape[-1])
    constant = split.head(np.zeros((1, *shape), np.float32)).reshape(-1).astype(np.float64)
    step = max(1, _MAX_NUMBERS // tokens[0].size)
    # In bfloat16 what one cell adds to the constant would be lost to rounding, were it not made stronger.
    gain = count if "bfloat16" in dtypes else 1
    contributions = np.empty((len(features), count, constant.size))
    for number, sample in enumerate(tokens):
        for start in range(first, first + count, step):
            cells = np.arange(start, min(start + step, first + count))
            masked = np.zeros((len(cells), *sample.shape), np.float32)
            masked[np.arange(len(cells)), cells] = sample[cells] * gain
            vectors = split.head(masked.reshape(len(cells), *shape)).reshape(len(cells), -1)
            contributions[number, cells - first] = (vectors - constant) / gain
    rest = embeddings.reshape(len(embeddings), -1).astype(np.float64) - contributions.sum(axis=1)
    _check_linear(rest, constant, embeddings, dtypes, split.layer.path)
    # The constant part belongs to no cell; with it goes the rounding error, so that the parts sum up exactly.
    contributions += rest[:, None] / count
    return contributions.reshape(len(features), *grid, -1)


def _check_linear(rest: np.ndarray, constant: np.ndarray, embeddings: np.ndarray, dtypes: set[str], layer: str) -> None:
    """Raises ArgumentError if the contributions of the cells do not make up the embeddings.

    Args:
        rest: (N, D), what they miss; the constant where the head is linear.
        constant: (D,), what the head adds to every picture.
        embeddings: (N, ...), the embeddings.
        dtypes: In which the model computes.
        layer: Path of the layer whose cells these are.
    """
    vectors = embeddings.reshape(len(embeddings), -1).astype(np.float64)
    missed = np.linalg.norm(rest - constant, axis=1)
    of_parts, of_constant = _ROUNDING["half" if dtypes & {"float16", "bfloat16"} else "float32"]
    allowed = of_parts * np.linalg.norm(vectors - constant, axis=1) + of_constant * np.linalg.norm(constant)
    if not (missed > allowed).any():
        return
    worst = float((missed / np.maximum(np.linalg.norm(vectors, axis=1), 1e-30)).max())
    raise ArgumentError(
        "form",
        "be 'gradient' where the model is not linear between the layer and the embedding",
        f"form='exact' and layer {layer!r}, whose cells miss the embedding by {worst:.1%}",
        [
            "form='gradient'",
            "a `layer` after which only pooling by the mean, dense layers without activation and batch normalisation "
            "follow",
        ],
    )


def _exact_maps(explainer: Explainer, a: Structure, b: Structure) -> SimilarityMaps:
    """Returns what each pair of cells adds to the similarity."""
    parts_a, parts_b = parts(explainer, a), parts(explainer, b)
    lengths = np.linalg.norm(parts_a.embeddings, axis=1) * np.linalg.norm(parts_b.embeddings, axis=1)
    scale = np.where(lengths > 0, lengths, 1.0)
    matrix = (
        np.einsum("nhwd,nijd->nhwij", parts_a.cells, parts_b.cells, optimize=True) / scale[:, None, None, None, None]
    )
    similarity = np.einsum("nd,nd->n", parts_a.embeddings, parts_b.embeddings) / scale
    warn_about_infinities({"similarity": similarity})
    return SimilarityMaps(
        similarity=similarity.astype(np.float32),
        map_a=matrix.sum(axis=(3, 4)).astype(np.float32),
        map_b=matrix.sum(axis=(1, 2)).astype(np.float32),
        matrix=matrix.astype(np.float32),
        layer=parts_a.layer,
        spans_a=parts_a.spans,
        spans_b=parts_b.spans,
    )


def _gradient_maps(explainer: Explainer, a: Structure, b: Structure) -> SimilarityMaps:
    """Returns Grad-CAM of the similarity, on each picture with the embedding of the other one fixed."""
    of_a = explainer(a, explainer.target.on_same_output(Similarity(explainer.embed(b))))
    of_b = explainer(b, explainer.target.on_same_output(Similarity(explainer.embed(a))))
    if of_a.cam is None or of_b.cam is None:
        raise ArgumentError(
            "model", "be an Explainer that computes 'gradcam' or a variant of it", f"methods={explainer.methods}"
        )
    return SimilarityMaps(of_a.scores, of_a.cam, of_b.cam, None, of_a.layer, of_a.spans, of_b.spans)


def _compute_dtypes(model: Any) -> set[str]:
    return {str(getattr(layer, "compute_dtype", None)) for layer in model._flatten_layers()}
