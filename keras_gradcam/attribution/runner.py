"""Runs requests in batches and keeps what was compiled."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..engine import current_engine
from ..engine.base import (
    ForwardResult,
    InputSpec,
    LayerOutput,
    Outputs,
    Program,
    Request,
    Split,
    Structure,
)
from ..engine.model import declared_inputs
from ..engine.places import Layout
from ..errors import ArgumentError
from ..grids import Placement
from .branches import warn_about_branches
from .cache import CompiledCache
from .coverage import OF_POSITIVE, SMALLEST, warn_about_guided_coverage
from .explanation import joined
from .inputs import (
    check_channels_last,
    explained_input,
    flattened,
    floating,
    preprocessed,
    standardized,
    warn_about_channels,
)
from .layers import LayerLike, branches_beside, check_layer_sees, choose_layer, sampled_calls
from .methods.formulas import CAM_FORMULAS, smallest_activation
from .methods.names import CAMS
from .placement import confirm_placements, is_plain, placement_of
from .targets.base import Target
from .targets.embeddings import Norm
from .tokens import tokens_after, warn_about_tokens

#: (M, H, W, C) changed pictures and (M,) the samples that they are versions of, to the result for them.
ChangedRun = Callable[[np.ndarray, np.ndarray], ForwardResult]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model answers about N samples.

    Attributes:
        target: What is explained.
        request: What was computed for it.
        result: The results, all N samples together.
        outputs: The model's outputs with their final activations, as arrays.
        layer: Path of the explained layer, or None.
        inputs: The model's inputs in flat order.
        input_spec: Their shapes and dtypes.
        placement: Where the maps of the layer lie on the explained input, or None.
    """

    target: Target
    request: Request
    result: ForwardResult
    outputs: Outputs
    layer: str | None
    inputs: Sequence[np.ndarray]
    input_spec: InputSpec
    placement: Placement | None = None

    @property
    def pictures(self) -> np.ndarray:
        """The explained input, (N, H, W, C)."""
        return self.inputs[self.request.explained_input]

    def channels_last(self, inputs: np.ndarray) -> np.ndarray:
        """Returns what is shaped like the explained input with its channels last, where the model turns it itself."""
        return inputs if self.placement is None else self.placement.channels_last(inputs)


class Runner:
    """Runs one model for an explainer: traces what is asked for once and answers it ``batch_size`` samples at a time.

    Args:
        model: A Keras model.
        target: What is explained unless a call says otherwise.
        layer: The layer to explain; None for the automatic choice.
        methods: Names of the maps to compute.
        batch_size: How many samples go through the model at once.
        layer_call: Which call of a layer that is called several times.
        input_index: Which of several inputs is explained.

    Attributes:
        cache: What was compiled.
    """

    def __init__(
        self,
        model: Any,
        *,
        target: Target,
        layer: LayerLike = None,
        methods: Sequence[str] = (),
        batch_size: int = 32,
        layer_call: int | None = None,
        input_index: int | None = None,
    ) -> None:
        self.model = model
        self.layer = layer
        self.engine = current_engine()
        self.cache = CompiledCache(model, self.engine)
        self.target = target
        #: Whether images come as the network takes them, also of a model with a preprocessor.
        self.takes_network_inputs = False
        self._methods = tuple(methods)
        self._batch_size = batch_size
        self._layer_call = layer_call
        self._input_index = input_index
        self._before_tokens = ""
        self._branches: tuple[str, list[str]] = ("", [])
        self._warned = False

    def traced(self, images: Structure) -> Program:
        """Returns the program for these images after running it on the first: errors in its results show only then."""
        inputs, input_spec = self._flattened(images)
        target = self.target.with_embedded_references(self.embed_references)
        arguments = target.arguments(len(inputs[0]))
        request = self._with_maps(self._request(input_spec, target, arguments))
        program = self._program(input_spec, [request], [self.layer])
        program([array[:1] for array in inputs], [[array[:1] for array in arguments]])
        return program

    def explained_layer(self, images: Structure) -> str | None:
        """Returns the path of the layer that is explained in these images, tried on the first; None without CAMs."""
        (layer,) = self.traced(images).layers
        return None if layer is None else layer.path

    def explained_input(self, images: Structure) -> int:
        """Returns the index, in flat order, of the input that is explained."""
        _, input_spec = self._flattened(images)
        return self._index_of_input(input_spec, self.layer)

    def split(self, images: Structure) -> Split:
        """Cuts the model in two at the layer, for inputs of this shape: up to it, and from it to the embedding."""
        _, input_spec = self._flattened(images)

        target = self.target.on_same_output(Norm())

        def cut() -> Split:
            request = self._request(input_spec, target, ())
            halves = self.engine.split(self.model, input_spec, request)
            if not is_plain(halves.layout):  # the program checks where the cells lie
                self._program(input_spec, [replace(request, cams={"gradcam": CAM_FORMULAS["gradcam"]})], [self.layer])
            self._warn_about_choice(input_spec)
            return halves

        return self.cache.get(input_spec, ("split", target.cache_key()), cut)

    def embed_references(self, pictures: Structure) -> Outputs:
        """Runs the model on reference pictures; a single picture for all samples needs no batch axis."""
        expected = declared_inputs(self.model)
        if isinstance(pictures, np.ndarray) and len(expected) == 1 and pictures.ndim == len(expected[0].shape) - 1:
            pictures = pictures[None]
        if self.takes_network_inputs:  # references come as users have them all the same
            pictures = preprocessed(pictures, self.model)
        try:
            return self.predicted(pictures)
        except ArgumentError as error:
            requirement = f"be embeddings, or pictures that the model takes (which must {error.requirement})"
            raise ArgumentError("reference", requirement, error.received, error.candidates, error.values) from error

    def predicted(self, images: Structure) -> Outputs:
        """Returns the model's outputs as arrays, with their final activations."""
        inputs, input_spec = self._flattened(images)
        program = self._program(input_spec, [self._request(input_spec, None, ())])
        (result,) = self._run(program, inputs, [()])
        return replace(program.outputs, predictions=result.predictions)

    def scores(self, images: Structure, target: Target) -> np.ndarray:
        """Returns the score of each sample, float32 (N,), by a forward pass alone."""
        inputs, input_spec = self._flattened(images)
        arguments = target.arguments(len(inputs[0]))
        program = self._program(input_spec, [self._request(input_spec, target, arguments)])
        (result,) = self._run(program, inputs, [arguments])
        assert result.scores is not None
        return result.scores

    def features(self, images: Structure) -> np.ndarray:
        """Returns the layer's feature map, float32 (N, h, w, channels)."""
        inputs, input_spec = self._flattened(images)
        request = replace(self._request(input_spec, None, ()), features=True)
        (result,) = self._run(self._program(input_spec, [request]), inputs, [()])
        assert result.features is not None
        return result.features

    def answers(self, images: Structure, questions: Sequence[tuple[Target, LayerLike]]) -> list[Answer]:
        """Answers several questions, a target and a layer each, in one forward pass."""
        inputs, input_spec = self._flattened(images)
        arguments = [target.arguments(len(inputs[0])) for target, _ in questions]
        requests = [
            self._with_maps(self._request(input_spec, target, values, layer))
            for (target, layer), values in zip(questions, arguments, strict=True)
        ]
        if len({request.explained_input for request in requests}) != 1:
            raise ArgumentError("layers", "be computed from one input", "layers of several inputs")
        program = self._program(input_spec, requests, [layer for _, layer in questions])
        return [
            Answer(
                target=target,
                request=request,
                result=_turned(result, layout),
                outputs=replace(program.outputs, predictions=result.predictions),
                layer=None if layer is None else layer.path,
                inputs=inputs,
                input_spec=input_spec,
                placement=None if layout is None else placement_of(layout).oriented(),
            )
            for (target, _), request, layer, layout, result in zip(
                questions, requests, program.layers, program.layouts, self._run(program, inputs, arguments), strict=True
            )
        ]

    def changed_run(self, answer: Answer) -> ChangedRun:
        """Returns a function that answers the same question about changed pictures, with scores and gradients."""
        index, arguments = answer.request.explained_input, answer.result.arguments or ()
        leaves = [*answer.input_spec.leaves]
        leaves[index] = (leaves[index][0], str(floating(answer.pictures).dtype))
        request = replace(answer.request, cams={}, guided_backprop=False, gradient=True, resolved_arguments=False)
        program = self._program(replace(answer.input_spec, leaves=tuple(leaves)), [request])

        def run(changed: np.ndarray, samples: np.ndarray) -> ForwardResult:
            inputs = [array[samples] for array in answer.inputs]
            inputs[index] = changed
            return program(inputs, [[array[samples] for array in arguments]])[0]

        return run

    def _flattened(self, images: Structure) -> tuple[list[np.ndarray], InputSpec]:
        images = images if self.takes_network_inputs else preprocessed(images, self.model)
        return flattened(standardized(images, self.model))

    def _request(
        self, input_spec: InputSpec, target: Target | None, arguments: tuple[np.ndarray, ...], layer: LayerLike = None
    ) -> Request:
        """Makes a request of nothing but the scores; maps are added to it."""
        layer = self.layer if layer is None else layer
        index = self._index_of_input(input_spec, layer)
        return Request(
            target=target,
            arguments=arguments,
            select=lambda layer_outputs: self._choose_layer(layer_outputs, input_spec, index, layer),
            explained_input=index,
        )

    def _with_maps(self, request: Request) -> Request:
        wanted = set(self._methods)
        cams = [name for name in CAMS if name in wanted]
        if "guided_gradcam" in wanted and "gradcam" not in wanted:
            cams.append("gradcam")
        formulas = {name: CAM_FORMULAS[name] for name in cams}
        if wanted & set(OF_POSITIVE):
            formulas[SMALLEST] = smallest_activation
        return replace(
            request,
            cams=formulas,
            gradient=bool(wanted & {"saliency", "input_x_gradient"}),
            guided_backprop=bool(wanted & {"guided_backprop", "guided_gradcam"}),
            resolved_arguments=bool(wanted & {"smoothgrad", "integrated_gradients"}),
        )

    def _index_of_input(self, input_spec: InputSpec, layer: LayerLike) -> int:
        """Finds the explained input: of several that are alike, the one that goes into the named layer."""
        default = explained_input(input_spec, self._input_index)
        alike = [len(shape) for shape, _ in input_spec.leaves].count(len(input_spec.leaves[default][0]))
        if self._input_index is not None or layer is None or alike == 1:
            return default

        def input_of_layer() -> int:
            layer_outputs = self.engine.layer_calls(self.model, input_spec)
            inputs = self._choose_layer(layer_outputs, input_spec, default, layer).inputs
            return inputs[0] if inputs and default not in inputs else default

        return self.cache.get(input_spec, ("input", _layer_key(layer)), input_of_layer)

    def _choose_layer(
        self, layer_outputs: Sequence[LayerOutput], input_spec: InputSpec, index: int, layer: LayerLike
    ) -> LayerOutput:
        shape = input_spec.leaves[index][0]
        chosen = choose_layer(self.model, layer_outputs, shape, layer, self._layer_call, index)
        if self._input_index is not None:
            check_layer_sees(chosen, index)
        if layer is None and tokens_after(chosen, layer_outputs, shape, index):
            self._before_tokens = chosen.info.path
        elif layer is None:
            self._branches = (chosen.info.path, branches_beside(chosen, layer_outputs, shape, index))
        return chosen

    def _warn_about_choice(self, input_spec: InputSpec) -> None:
        """Warns once where the automatic choice is what goes into a transformer, or one of several branches."""
        if self._warned or not (self._before_tokens or self._branches[1]):
            return
        self._warned = True
        if not self._before_tokens:
            warn_about_branches(*self._branches)
            return
        # Trace once more with a batch size that cannot be mistaken for the windows that a transformer lays into it.
        layer_outputs = sampled_calls(self.model, input_spec)
        index = self._index_of_input(input_spec, None)
        warn_about_tokens(self._before_tokens, layer_outputs, input_spec.leaves[index][0], index)

    def _program(
        self, input_spec: InputSpec, requests: Sequence[Request], layers: Sequence[LayerLike] = (None,)
    ) -> Program:
        """Returns one program for all requests, which share its forward pass; checks that targets fit the model."""

        def trace() -> Program:
            explained = requests[0].explained_input
            check_channels_last(self.model)
            program = self.engine.trace(self.model, input_spec, requests)
            confirm_placements(program, input_spec, explained)
            warn_about_channels(input_spec.leaves[explained][0], program.layouts)
            if any(request.guided_backprop for request in requests):
                warn_about_guided_coverage(program.guided_coverage)
            self._warn_about_choice(input_spec)
            return program

        key = tuple((_request_key(request), _layer_key(layer)) for request, layer in zip(requests, layers, strict=True))
        program = self.cache.get(input_spec, key, trace)
        for request in requests:
            if isinstance(request.target, Target):
                request.target.check(program.outputs)
        return program

    def _run(
        self, program: Program, inputs: Sequence[np.ndarray], arguments: Sequence[Sequence[np.ndarray]]
    ) -> list[ForwardResult]:
        """Runs a program on all samples, ``batch_size`` at a time, and joins the results of each request."""
        batches = []
        for start in range(0, len(inputs[0]), self._batch_size):
            rows = slice(start, start + self._batch_size)
            part = [[array[rows] for array in values] for values in arguments]
            batches.append(program([array[rows] for array in inputs], part))
        names = [field.name for field in fields(ForwardResult)]
        return [
            ForwardResult(**{name: joined([getattr(result, name) for result in results]) for name in names})
            for results in zip(*batches, strict=True)
        ]


def _turned(result: ForwardResult, layout: Layout | None) -> ForwardResult:
    """Returns the result with the axes and cells of its CAMs in the order of the input."""
    if layout is None or not result.cams:
        return result
    turned = placement_of(layout).turned
    return replace(result, cams={name: turned(maps) for name, maps in result.cams.items()})


def _request_key(request: Request) -> Hashable:
    """Returns what a program has to be traced for again when it changes, the layer aside."""
    shapes = tuple((array.shape[1:], str(array.dtype)) for array in request.arguments)
    target = None if request.target is None else request.target.cache_key()
    wanted = (
        tuple(request.cams),
        request.gradient,
        request.guided_backprop,
        request.features,
        request.resolved_arguments,
    )
    return (target, shapes, wanted)


def _layer_key(layer: LayerLike) -> Hashable:
    return layer if layer is None or isinstance(layer, str) else id(layer)
