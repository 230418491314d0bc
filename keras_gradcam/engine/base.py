"""The contract between this package and a Keras backend.

An engine is the only place that runs and differentiates a model. It traces a model together with requests (see
:class:`Request`) once and returns a :class:`Program`, which is then called with inputs as often as wanted. A second
backend implements :class:`Engine`, :class:`Program` and :class:`Split` and keeps to these rules:

**Arrays.** Inputs come as NumPy arrays in flat order (``InputSpec.structure`` says how the model nests them), channels
last, with the dtype and the row shape of the :class:`InputSpec`. Results are NumPy arrays on the CPU. What is computed
by this package (scores, maps, gradients, features) is float32, whatever the model computes in; predictions keep the
dtype in which the model returns them.

**Batch size.** It is free: the same program answers one sample and a thousand, without being traced again.

**Weights.** A program reads the current weights each time it is called; it copies none of them when it is traced.

**The model is left as found.** Tracing and calling change neither weights, moving averages, counters, seeds and
collected losses, nor attributes of layers, not even when an error is raised half-way or another thread calls the model
meanwhile. Layers run with ``training=False``; what a layer assigns nevertheless is dropped. Only a model that has never
been called is built. When a program is deleted, model and graph can be freed.

**One forward pass.** All requests of a program share a single forward pass; each adds its backward passes only.

**Guided rule.** Guided backpropagation differentiates every rectifier f by ``f'(x) * max(g, 0)``, where g is the
gradient that arrives from above and x the rectifier's input, elementwise, and everything else as usual. A rectifier is
monotone and linear piece by piece, however the model spells it: ReLU, ReLU6, leaky ReLU and PReLU, with or without a
threshold. Point symmetric functions (hard sigmoids, which gate) and smooth ones are none. The rule holds for
``ForwardResult.guided_backprop`` alone: CAMs and ordinary gradients of the same program do not feel it, nor does any
gradient that the user takes of the model.

**Mixed precision.** A model that computes in half precision is differentiated in it, as in training, with the loss
scaled so that small gradients neither vanish nor large ones overflow; the scale is divided out in float32. It is found
for every call by itself, so that results do not depend on earlier calls.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .boxes import Lines
from .places import Layout

#: A tensor of whichever backend runs the model.
Tensor = Any

#: An array, or a list, tuple or dict of arrays: what a model takes and returns.
Structure = Any


# ----------------------------------------------------------------------------------------------------- what is asked


@dataclass(frozen=True, eq=False)
class InputSpec:
    """Shapes (without the batch) and dtypes of a structure of inputs; the batch size stays free.

    Attributes:
        structure: How the model nests its inputs; its leaves mean nothing.
        leaves: Row shape and dtype of each input, in flat order (dicts by their sorted keys).
    """

    structure: Structure
    leaves: tuple[tuple[tuple[int, ...], str], ...]

    def cache_key(self) -> Hashable:
        """Returns what is equal for inputs that one program can take."""
        return (repr(self.structure), self.leaves)


@dataclass(frozen=True)
class LayerCall:
    """One call of one layer during a forward pass.

    Attributes:
        path: Names from the model's own layers down to this one, joined by "/": ``"backbone/conv5_block3_out"``.
        layer_type: Name of the layer's class.
        output_shape: Shape of what the call returned; None where it is not fixed (the batch).
        call: 0 for the first call of this layer in the forward pass, 1 for the second, ...
    """

    path: str
    layer_type: str
    output_shape: tuple[int | None, ...]
    call: int = 0


@dataclass(frozen=True, eq=False)
class LayerOutput:
    """A :class:`LayerCall` together with the tensor it returned, as seen while the model is traced.

    Attributes:
        info: What the user may know about the call.
        layer: The layer itself.
        output: The tensor that the layer's ``call`` returned, through which the rest of the model is computed. Of
            several tensors, the first.
        influences_score: Whether the explained score is computed from ``output``; without a target, whether any of the
            model's outputs is.
        is_model_output: Whether ``output`` is one of the model's outputs, or the logits of one, and no other output is
            computed from it.
        inputs: Indices, in flat order, of the model's inputs that ``output`` is computed from.
        computed_from: Positions, among all calls, of those whose outputs ``output`` is computed from.
    """

    info: LayerCall
    layer: Any
    output: Tensor
    influences_score: bool = True
    is_model_output: bool = False
    inputs: tuple[int, ...] = ()
    computed_from: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a target is computed from.

    While a program is traced, the leaves are tensors of the backend. Where a target only checks whether it fits
    (:attr:`Program.outputs`, :meth:`ScoreTarget.check`), they are of type ``keras.KerasTensor``: shape
    (None for the batch) and dtype.

    Attributes:
        predictions: The model's outputs, in the structure the model returns; None stays None, here and below.
        logits: The same structure; an output that ends in a softmax, log-softmax or sigmoid is replaced by the scores
            before it, wherever in the model that activation is (a layer's argument, a layer, a function), also through
            what casts, clips or moves its values after it. Other outputs stand here themselves.
        final_activations: The same structure of strings: which activation that is, "softmax", "log_softmax" or
            "sigmoid"; "probabilities" for values from 0 to 1 that cannot be led back to scores; "logits" for scores of
            classes, as the loss of a compiled model takes them; "l2_normalization" for an output that ends in one;
            "" where nothing was found.
        pre_normalization: The same structure; an output that ends in an L2 normalisation of each sample (and constant
            factors and reshapes after it) is replaced by the embedding before it. Other outputs stand here themselves.
        names: The names of the outputs in flat order, where the model has names for them.
    """

    predictions: Structure
    logits: Structure
    final_activations: Structure
    pre_normalization: Structure
    names: tuple[str, ...] = ()


class ScoreTarget(Protocol):
    """The part of a target that an engine uses; see :mod:`keras_gradcam.attribution.targets`.

    All but ``cache_key`` and ``arguments`` are called while a model is traced, and compute with ``keras.ops``.
    """

    def cache_key(self) -> Hashable:
        """Returns what is equal for targets that one program can answer, given other arguments."""

    def arguments(self, samples: int) -> tuple[np.ndarray, ...]:
        """Returns the numbers in the target, one row per sample, which a program takes at each call."""

    def check(self, outputs: Outputs) -> None:
        """Raises ``ArgumentError`` if the target does not fit these outputs, of which only shapes are known."""

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        """Returns the score of each sample, shape (N,), whose gradient is taken."""

    def classes(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor | None:
        """Returns the explained class of each sample, int (N,), or None if the target has no classes."""

    def resolve_arguments(self, outputs: Outputs, arguments: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Returns the arguments with the predicted class in place of "whatever the model predicts"."""

    def select_output(self, outputs: Outputs) -> Outputs:
        """Returns the one output, of several, that the target looks at."""


@dataclass(frozen=True, eq=False)
class Request:
    """What to compute. Several requests of one forward pass have the same explained input.

    Attributes:
        target: Gives one score per sample; None to compute what needs no score.
        arguments: The target's arrays for any number of samples; their dtypes and row shapes are traced, their values
            come with each call.
        select: Chooses the layer among all calls of the forward pass, in the order in which they were made.
        explained_input: Index, in flat order, of the model input that is explained.
        cams: Name to formula: a function of activations and gradients, both float32 (N, *space, channels), that gives a
            map (N, *space), in tensors of the backend.
        gradient: Whether the ordinary gradient with respect to the input is wanted.
        guided_backprop: Whether the guided gradient with respect to the input is wanted.
        features: Whether the feature map itself is wanted.
        resolved_arguments: Whether the target's arguments are wanted with the predicted class filled in where it asks
            for that.
    """

    target: ScoreTarget | None
    arguments: tuple[np.ndarray, ...]
    select: Callable[[Sequence[LayerOutput]], LayerOutput]
    explained_input: int = 0
    cams: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = field(default_factory=dict)
    gradient: bool = False
    guided_backprop: bool = False
    features: bool = False
    resolved_arguments: bool = False


# -------------------------------------------------------------------------------------------------- what is answered


@dataclass(frozen=True, eq=False)
class ForwardResult:
    """The results of one pass over N samples, as NumPy arrays; what was not asked for is None.

    Attributes:
        predictions: The model's outputs as returned; None if only feature maps were asked for.
        scores: float32 (N,), the explained score, where there is a target.
        classes: int (N,), the explained class, where the target has one.
        cams: Name to float32 (N, *space), raw, at the resolution of the layer; tokens lie on their grid.
        gradient: float32, shaped like the explained input, the gradient of the sum of scores.
        guided_backprop: float32, shaped like the explained input, the same by the guided rule.
        features: float32 (N, *space, channels), the feature map; tokens lie on their grid.
        arguments: The target's arguments with what it leaves to the model filled in.
    """

    predictions: Structure
    scores: np.ndarray | None = None
    classes: np.ndarray | None = None
    cams: Mapping[str, np.ndarray] | None = None
    gradient: np.ndarray | None = None
    guided_backprop: np.ndarray | None = None
    features: np.ndarray | None = None
    arguments: tuple[np.ndarray, ...] | None = None


@dataclass(frozen=True)
class GuidedCoverage:
    """What the guided rule found in a model; for warnings.

    Attributes:
        reached: Number of rectifying operations by type, in the backend's words.
        unreached: Number of those that keep their ordinary gradient: inside a loop or a branch of the graph, or
            computed a second time by the backward pass (``keras.remat``).
        others: Names of other nonlinear activations in the model, sorted.
    """

    reached: Mapping[str, int] = field(default_factory=dict)
    unreached: int = 0
    others: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ReceptiveBoxes:
    """The pixels that the cells of a layer's feature map are computed from.

    Attributes:
        layer: The layer.
        explained_input: Index, in flat order, of the model input that the pixels belong to: the requested one, or the
            picture that the layer is computed from where that is another.
        boxes: int32 (h, w, channels, 4), the smallest box around the pixels as (x0, y0, x1, y1) with exclusive ends;
            (0, 0, 0, 0) for a cell that sees padding alone. Channels that see the same may share memory.
        lines: How the boxes follow one another down and across the feature map, were there no border; None along an
            axis where cells do not see equally much.
        gated: Whether something that is the same for every cell (the gate of squeeze and excitation, the statistics of
            instance normalisation) was met on the way.
    """

    layer: LayerCall
    explained_input: int
    boxes: np.ndarray
    lines: Lines
    gated: bool


# ------------------------------------------------------------------------------------------------------- who answers


class Program(Protocol):
    """A traced model with some requests, which share one forward pass; call it as often as wanted, from any thread."""

    #: The layer that each request has chosen; None for one that asks for neither CAMs nor features.
    layers: tuple[LayerCall | None, ...]
    #: Shapes and final activations of the outputs, as ``keras.KerasTensor`` with None for the batch.
    outputs: Outputs
    #: What the guided rule reached.
    guided_coverage: GuidedCoverage
    #: How the map of each request lies in its layer's output and on the explained input; None for one without a map.
    layouts: tuple[Layout | None, ...]

    def __call__(self, inputs: Sequence[np.ndarray], arguments: Sequence[Sequence[np.ndarray]]) -> list[ForwardResult]:
        """Runs the model and answers each request.

        Args:
            inputs: The model's inputs in flat order, N rows each.
            arguments: For each request, the arguments of its target, N rows each.

        Returns:
            One :class:`ForwardResult` per request.

        Raises:
            ArgumentError: If target or layer give anything but one score and one map for each of the N samples.
        """

    def cell_gradients(
        self, request: int, inputs: Sequence[np.ndarray], positions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        """Differentiates single cells of a map, their channels added up, with respect to the explained input.

        Only for a request of which it is not known that its map lies over the whole input as it is.

        Args:
            request: Position of the request.
            inputs: The model's inputs in flat order, one row each.
            positions: float (M, axes), where the cells lie on the layer's grid, as shares of its extents.

        Returns:
            Gradients, float32 (M, *shape of the explained input); the cells, int (M, axes); the extents of the grid.
        """


class Split(Protocol):
    """A traced model cut in two at the output of a layer; both halves read the current weights."""

    #: The layer.
    layer: LayerCall
    #: How the cells lie in the layer's output, and where on the explained input.
    layout: Layout

    def body(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the layer's output as it is (tokens stay tokens), float32, and what :meth:`head` makes of it."""

    def head(self, features: np.ndarray) -> np.ndarray:
        """Returns what the rest of the model makes of the layer's output: the embedding of each sample, float32.

        It is ``pre_normalization`` of the output that the target selects: the embedding before any L2 normalisation.
        The number of rows is free and need not be that of the samples.
        """


class Engine(Protocol):
    """Runs and differentiates models on one Keras backend; the rules above hold for every method.

    An engine has no state: any number of them are interchangeable.
    """

    def versions(self) -> Mapping[str, str]:
        """Returns the versions that results depend on: of "keras", and of the backend under its name."""

    def is_first_process(self) -> bool:
        """Returns whether this process writes: the only one of a training, or the first of several."""

    def start(self) -> None:
        """Silences the backend's log and sets up its devices; called by :func:`keras_gradcam.engine.quiet_start`."""

    def build(self, model: Any, input_spec: InputSpec) -> None:
        """Makes the weights of a model that has not been called yet; does nothing to one that has.

        Counters and other state which that call would change stay at their initial values.
        """

    def trace(self, model: Any, input_spec: InputSpec, requests: Sequence[Request]) -> Program:
        """Traces a model with some requests, at least one.

        Raises:
            ArgumentError: If a target does not fit the outputs, or a target or the input has no gradient; likewise
                what ``check``, ``scores`` and ``select`` of the requests raise, as it is.
        """

    def split(self, model: Any, input_spec: InputSpec, request: Request) -> Split:
        """Traces a model cut in two at the layer that a request chooses.

        Raises:
            ArgumentError: If a path leads from the inputs to the embedding past that layer.
        """

    def layer_calls(self, model: Any, input_spec: InputSpec, samples: int | None = None) -> list[LayerOutput]:
        """Returns all layer calls of a forward pass, in the order in which they were made.

        Layers that run inside a loop or a branch of the graph, whose tensors cannot be used from outside, are left out.

        Args:
            model: The model.
            input_spec: Shapes and dtypes of its inputs.
            samples: The batch size to trace with; None leaves it free. With a number, the first extent of an output
                shape is None where it is that number, and another where the model lays other axes into the batch.
        """

    def receptive_field(
        self, model: Any, input_spec: InputSpec, request: Request, gates: bool = True
    ) -> ReceptiveBoxes:
        """Finds the pixels that each cell of a layer's feature map is computed from, without running the model.

        The answer follows from the operations alone: weights that happen to be zero count like any other.

        Args:
            model: The model.
            input_spec: Shapes and dtypes of its inputs, all extents known.
            request: ``select`` chooses the layer, ``explained_input`` the picture; the rest is ignored.
            gates: Whether to count what is the same for every cell of a map. :attr:`ReceptiveBoxes.gated` tells whether
                there is any.

        Raises:
            ArgumentError: If the layer has no feature map (h, w, channels), or is computed by an operation of which it
                is not known what it sees.
        """
