"""The contract between this package and a Keras backend.

An engine is the only place that runs and differentiates a model. It takes a model and a :class:`Request`, traces
the two once and returns a :class:`Program`, which is then called with pictures as often as wanted and reads the
current weights each time. Nothing here knows about a particular backend.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

#: A tensor of whichever backend runs the model.
Tensor = Any

#: An array, or a list, tuple or dict of arrays: what a model takes and returns.
Structure = Any


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
        output: The tensor the layer's ``call`` returned, at the place where the rest of the model reads it.
        influences_score: Whether the explained score is computed from ``output``.
        is_model_output: Whether ``output`` is what the model returns (or that before its softmax).
        inputs: Indices, in flat order, of the model's inputs that ``output`` is computed from.
    """

    info: LayerCall
    layer: Any
    output: Tensor
    influences_score: bool = True
    is_model_output: bool = False
    inputs: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a target is computed from.

    Attributes:
        predictions: The model's outputs, in the structure the model returns.
        logits: The same structure, each output replaced by the scores before its softmax or sigmoid where it
            ends in one.
        final_activations: The same structure of strings: "softmax", "log_softmax", "sigmoid", "l2_normalization" or "" (none was
            found).
        pre_normalization: The same structure, each output replaced by what stands before its L2 normalisation where it ends
            in one.
        names: The names of the outputs in flat order, where the model has names for them.
    """

    predictions: Structure
    logits: Structure
    final_activations: Structure
    pre_normalization: Structure
    names: tuple[str, ...] = ()


class ScoreTarget(Protocol):
    """The part of a target that an engine uses; see :mod:`keras_gradcam.targets`."""

    def cache_key(self) -> Hashable: ...
    def arguments(self, samples: int) -> tuple[np.ndarray, ...]: ...
    def check(self, outputs: Outputs) -> None: ...
    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor: ...
    def classes(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor | None: ...
    def resolve_arguments(self, outputs: Outputs, arguments: Sequence[Tensor]) -> tuple[Tensor, ...]: ...
    def select_output(self, outputs: Outputs) -> Outputs: ...


@dataclass(frozen=True, eq=False)
class Request:
    """What to compute. Several requests of one forward pass have the same explained input.

    Attributes:
        target: Gives one score per sample; None to compute what needs no score.
        arguments: The target's arrays for any number of samples; their dtypes and row shapes are traced.
        select: Chooses the layer among all calls of the forward pass.
        explained_input: Index, in flat order, of the model input that is explained.
        cams: Name to formula: a function of activations and gradients (N, *space, channels) that gives a map
            (N, *space), in tensors of the backend.
        gradient: Whether the ordinary gradient with respect to the input is wanted.
        guided_backprop: Whether the guided gradient with respect to the input is wanted.
        features: Whether the feature map itself is wanted.
        resolved_arguments: Whether the target's arguments are wanted with the predicted class filled in where it asks for that.
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


@dataclass(frozen=True, eq=False)
class InputSpec:
    """Shapes (without the batch) and dtypes of a structure of inputs; the batch size stays free."""

    structure: Structure
    leaves: tuple[tuple[tuple[int, ...], str], ...]

    def cache_key(self) -> Hashable:
        return (repr(self.structure), self.leaves)


@dataclass(frozen=True, eq=False)
class ForwardResult:
    """The results of one pass over N samples, as NumPy arrays; what was not asked for is None.

    Attributes:
        predictions: The model's outputs as returned.
        scores: float32 (N,), the explained score, where there is a target.
        classes: int (N,), the explained class, where the target has one.
        cams: Name to float32 (N, ..., h, w), raw.
        gradient: float32, shaped like the explained input, raw.
        guided_backprop: float32, shaped like the explained input, raw.
        features: float32 (N, ..., h, w, channels), the feature map.
        arguments: The target's values with what it leaves to the model filled in.
    """

    predictions: Structure
    scores: np.ndarray | None = None
    classes: np.ndarray | None = None
    cams: Mapping[str, np.ndarray] | None = None
    gradient: np.ndarray | None = None
    guided_backprop: np.ndarray | None = None
    features: np.ndarray | None = None
    arguments: tuple[np.ndarray, ...] | None = None


class Program(Protocol):
    """A traced model with some requests, which share one forward pass; call it as often as wanted."""

    #: The layer that each request has chosen.
    layers: tuple[LayerCall | None, ...]
    #: Shapes and final_activations of the outputs, for checks on targets; leaves are shapes with None for the batch.
    outputs: Outputs
    #: What the guided rule reached; for messages.
    guided_coverage: GuidedCoverage

    def __call__(self, inputs: Sequence[np.ndarray], arguments: Sequence[Sequence[np.ndarray]]) -> list[ForwardResult]:
        """Answers each request; ``arguments`` holds those of its target."""


@dataclass(frozen=True)
class GuidedCoverage:
    """What the guided rule found in a model.

    Attributes:
        reached: Number of rectifying operations by type.
        unreached: Number of those inside control flow (``tf.while_loop``, ``tf.map_fn``), which keep their
            ordinary gradient.
        others: Names of other nonlinear activations in the model.
    """

    reached: Mapping[str, int] = field(default_factory=dict)
    unreached: int = 0
    others: tuple[str, ...] = ()


class Split(Protocol):
    """A traced model cut in two at the output of a layer; both halves read the current weights."""

    #: The layer.
    layer: LayerCall
    #: The grid on which the layer's last tokens lie; empty where its output is a feature map by itself.
    grid: tuple[int, ...]

    def body(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the layer's output for some inputs, and the head's."""

    def head(self, features: np.ndarray) -> np.ndarray:
        """Returns (N, D), what the rest of the model makes of the layer's output, before any L2 normalisation."""


class Engine(Protocol):
    """A Keras backend."""

    def versions(self) -> Mapping[str, str]: ...
    def start(self) -> None: ...
    def build(self, model: Any, input_spec: InputSpec) -> None: ...
    def trace(self, model: Any, input_spec: InputSpec, requests: Sequence[Request]) -> Program: ...
    def split(self, model: Any, input_spec: InputSpec, request: Request) -> Split: ...
    def layer_calls(self, model: Any, input_spec: InputSpec, samples: int | None = None) -> list[LayerOutput]:
        """All layer calls of a forward pass, of so many samples where that is said.

        With ``samples`` the batch of an output is None where it is that of the input, and a number where other axes are
        laid into it.
        """
        ...
