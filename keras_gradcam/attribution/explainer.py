"""Explain pictures: :class:`Explainer`, compiled once and called often, and :func:`explain`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ..engine import current_engine
from ..engine.base import ForwardResult, InputSpec, LayerOutput, Outputs, Program, Request, Split, Structure
from ..engine.model import declared_inputs
from ..errors import ArgumentError, check_whole_number
from ..grids import upsample
from .explanation import Explanation, joined, shortened, warn_about_infinities
from .inputs import check_channels_last, explained_input, flattened, floating, standardized
from .layers import LayerLike, choose_layer, described, sampled_calls
from .methods.formulas import CAM_FORMULAS, guided_gradcam, saliency_map
from .methods.names import CAMS, DEFAULT_METHODS, as_methods
from .methods.sampling import Sampling, baseline_of, integrated_gradients, smoothgrad
from .runner import CompiledCache
from .targets.base import Target, TargetLike
from .targets.classes import TopClass, class_probabilities
from .targets.embeddings import Norm, embeddings
from .targets.outputs import as_target
from .tokens import tokens_after, warn_about_tokens


class Explainer:
    """Explains a model again and again with its current weights, compiled once.

    One forward pass serves all methods: Grad-CAM and its cam_variants take the ordinary gradient with respect to the feature
    map, guided backpropagation the guided gradient with respect to the input; only SmoothGrad and integrated gradients
    take many passes. Weights are read at every call; only a model whose layers, activations or variables were replaced
    is compiled anew.

    Args:
        model: Any Keras model: functional, sequential or subclassed, with nested models, several inputs or outputs.
            It is not changed.
        layer: The feature map to explain: a layer's name, a path such as "backbone/conv5_block3_out", the layer
            itself, or None for the last feature map with the axes of the input. Of a transformer that is what goes into
            it, so name a layer of tokens there. See :func:`keras_gradcam.list_layers`.
        target: What to explain: a class, labels (class numbers or one-hot rows, one per sample), a target such as
            ``Class(3) - Class(5)``, a function of the outputs, or None for the predicted class.
        methods: What to compute, of :data:`keras_gradcam.methods.METHODS`: "gradcam", "gradcam_plus_plus", "hirescam",
            "xgradcam", "layercam" on the layer's grid; "guided_backprop", "guided_gradcam", "saliency",
            "input_x_gradient", "smoothgrad", "integrated_gradients" at the size of the input. Only what is needed is
            computed.
        batch_size: How many samples go through the model at once.
        layer_call: Which call of a layer that the model calls several times (0 first, -1 last).
        input_index: Which of several inputs to explain, in flat order; by default the first of the highest rank, or the
            one that goes into the named call of the layer (of a siamese model).
        sampling: How SmoothGrad and integrated gradients sample.

    Raises:
        ValueError: If an argument is none of these.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        >>> explainer = Explainer(model)
        >>> explainer(np.ones((5, 8, 8, 3)), target=1).heatmap.shape
        (5, 8, 8)

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, https://arxiv.org/abs/1610.02391; Springenberg et al., Striving for
    Simplicity, ICLR workshop 2015, https://arxiv.org/abs/1412.6806.
    """

    def __init__(
        self,
        model: Any,
        *,
        layer: LayerLike = None,
        target: TargetLike = None,
        methods: str | Sequence[str] = DEFAULT_METHODS,
        batch_size: int = 32,
        layer_call: int | None = None,
        input_index: int | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        import keras

        check_whole_number("batch_size", batch_size, 1)
        if not isinstance(model, keras.Layer):
            raise ArgumentError(
                "model",
                "be a Keras 3 model",
                type(model).__name__,
                "keras.Model, keras.Sequential, a subclass of keras.Model",
            )
        self.model = model
        self.target = as_target(target)
        self.methods = as_methods(methods)
        self.batch_size = int(batch_size)
        self.sampling = sampling or Sampling()
        self._layer = layer
        self._layer_call = layer_call
        self._input_index = input_index
        self._engine = current_engine()
        self._programs = CompiledCache(model, self._engine)
        self._before_tokens = ""
        self._warned = False

    def __call__(self, images: Structure, target: TargetLike = None) -> Explanation:
        """Explains a batch of pictures of any length.

        Args:
            images: What the model takes: an array (N, H, W, C) of any real dtype as the model expects its values, or a
                list or dict of arrays for several inputs. Integers are converted to floating point, not rescaled.
            target: What to explain instead of the explainer's own target.

        Returns:
            The :class:`Explanation` of all N samples.

        Raises:
            ValueError: If the pictures, the layer or the target do not fit the model.
        """
        (explanation,) = self._explained(images, [(self._chosen_target(target), self._layer)])
        return explanation

    def top_classes(self, images: Structure, count: int = 3) -> tuple[Explanation, ...]:
        """Explains the classes that the model finds most likely, best first, in one forward pass.

        Of a model with several outputs those of the one that the explainer's target names.

        Args:
            images: As for calling the explainer.
            count: How many classes.

        Returns:
            One :class:`Explanation` of all N samples for each place.

        Raises:
            ValueError: As calling the explainer does, and if the model has fewer classes.
        """
        targets = [self.target.on_same_output(TopClass(rank)) for rank in range(count)]
        return tuple(self._explained(images, [(target, self._layer) for target in targets]))

    def at_layers(self, images: Structure, layers: Sequence[LayerLike]) -> dict[str, Explanation]:
        """Explains several feature maps in one forward pass.

        Args:
            images: As for calling the explainer.
            layers: Names, paths or layers.

        Returns:
            The path of each layer, with its :class:`Explanation`.

        Raises:
            ValueError: As calling the explainer does.
        """
        found = self._explained(images, [(self._chosen_target(None), layer) for layer in layers])
        return {str(one.layer): one for one in found}

    def predict(self, images: Structure) -> Structure:
        """The model's outputs for any number of pictures, as it returns them, with its current weights.

        Raises:
            ValueError: If the pictures do not fit the model.
        """
        return self._outputs(images).predictions

    def score(self, images: Structure, target: TargetLike = None) -> np.ndarray:
        """The explained score of any number of pictures, float32 (N,), by a forward pass alone.

        Raises:
            ValueError: If the pictures or the target do not fit the model.
        """
        flat, input_spec = flattened(standardized(images, self.model))
        chosen = self._chosen_target(target)
        values = chosen.arguments(len(flat[0]))
        (answer,) = self._passed(self._program(input_spec, [self._request(input_spec, chosen, values)]), flat, [values])
        assert answer.scores is not None
        return answer.scores

    def embed(self, images: Structure) -> np.ndarray:
        """The embeddings of any number of pictures, float32 (N, D), with the model's current weights.

        Of several outputs it is the one that the target names.

        Raises:
            ValueError: If the pictures do not fit the model.
        """
        return embeddings(self._outputs(images), self.target)

    def features(self, images: Structure) -> np.ndarray:
        """The feature map of the layer, float32 (N, h, w, channels).

        Raises:
            ValueError: If the pictures or the layer do not fit the model.
        """
        flat, input_spec = flattened(standardized(images, self.model))
        request = replace(self._request(input_spec, None, ()), features=True)
        (answer,) = self._passed(self._program(input_spec, [request]), flat, [()])
        assert answer.features is not None
        return answer.features

    def outputs(self, images: Structure) -> Outputs:
        """Traces the model for ``images``, tries it on the first and returns the shapes and final_activations of its outputs.

        Raises:
            ValueError: As calling the explainer would.
        """
        return self._traced(images).outputs

    def layer_of(self, images: Structure) -> str | None:
        """Traces the model for ``images``, tries it on the first and returns the path of the explained layer, or None.

        It is None without any method that explains a layer.
        """
        (layer,) = self._traced(images).layers
        return None if layer is None else layer.path

    def explained_input(self, images: Structure) -> int:
        """Which of the inputs is explained, in flat order."""
        _, input_spec = flattened(standardized(images, self.model))
        return self._which(input_spec, self._layer)

    def split(self, images: Structure) -> Split:
        """The model cut in two at the layer: up to it, and from it to the embedding. For pictures like these."""
        _, input_spec = flattened(standardized(images, self.model))

        def cut() -> Split:
            request = self._request(input_spec, self.target.on_same_output(Norm()), (), self._layer)
            made = self._engine.split(self.model, input_spec, request)
            self._warn_about_tokens(input_spec)
            return made

        return self._programs.get(input_spec, "split", cut)

    def __repr__(self) -> str:
        layer = "the last feature map" if self._layer is None else described(self._layer)
        target = shortened(repr(self.target))
        return f"Explainer({self.model.name!r}, layer={layer}, target={target}, methods={self.methods})"

    # --- what there is to compute -----------------------------------------------------------------------------------

    def _chosen_target(self, target: TargetLike) -> Target:
        """The target of a call, its pictures embedded."""
        return (self.target if target is None else as_target(target)).with_embedded_references(self._embedded)

    def _embedded(self, pictures: Structure) -> Outputs:
        """The model's outputs for reference pictures, one picture for all without a batch axis included."""
        expected = declared_inputs(self.model)
        if isinstance(pictures, np.ndarray) and len(expected) == 1 and pictures.ndim == len(expected[0].shape) - 1:
            pictures = pictures[None]
        try:
            return self._outputs(pictures)
        except ValueError as error:
            raise ValueError(f"`reference` must be pictures as the model takes them, or embeddings. {error}") from error

    def _outputs(self, images: Structure) -> Outputs:
        flat, input_spec = flattened(standardized(images, self.model))
        program = self._program(input_spec, [self._request(input_spec, None, ())])
        (answer,) = self._passed(program, flat, [()])
        return replace(program.outputs, predictions=answer.predictions)

    def _request(
        self, input_spec: InputSpec, target: Target | None, values: tuple[np.ndarray, ...], layer: LayerLike = None
    ) -> Request:
        """A request of nothing but the scores; maps are added to it."""
        layer = self._layer if layer is None else layer
        which = self._which(input_spec, layer)
        return Request(
            target=target,
            arguments=values,
            select=lambda layer_outputs: self._chosen_layer(layer_outputs, input_spec, which, layer),
            explained_input=which,
        )

    def _with_maps(self, request: Request) -> Request:
        wanted = set(self.methods)
        cams = [name for name in CAMS if name in wanted]
        if "guided_gradcam" in wanted and "gradcam" not in wanted:
            cams.append("gradcam")
        return replace(
            request,
            cams={name: CAM_FORMULAS[name] for name in cams},
            gradient=bool(wanted & {"saliency", "input_x_gradient"}),
            guided_backprop=bool(wanted & {"guided_backprop", "guided_gradcam"}),
            resolved_arguments=bool(wanted & {"smoothgrad", "integrated_gradients"}),
        )

    def _which(self, input_spec: InputSpec, layer: LayerLike) -> int:
        """The explained input."""
        default = explained_input(input_spec, self._input_index)
        alike = [len(shape) for shape, _ in input_spec.leaves].count(len(input_spec.leaves[default][0]))
        if self._input_index is not None or layer is None or alike == 1:
            return default

        def found() -> int:
            layer_outputs = self._engine.layer_calls(self.model, input_spec)
            inputs = self._chosen_layer(layer_outputs, input_spec, default, layer).inputs
            return inputs[0] if inputs and default not in inputs else default

        return self._programs.get(input_spec, ("input", _name(layer)), found)

    def _chosen_layer(
        self, layer_outputs: Sequence[LayerOutput], input_spec: InputSpec, which: int, layer: LayerLike
    ) -> LayerOutput:
        chosen = choose_layer(self.model, layer_outputs, input_spec.leaves[which][0], layer, self._layer_call, which)
        if self._input_index is not None and chosen.inputs and which not in chosen.inputs:
            raise ArgumentError(
                "layer",
                "be computed from the explained input",
                f"call {chosen.info.call} of {chosen.info.path!r}, and input_index={which}",
                f"input_index={chosen.inputs[0]}, another layer_call",
            )
        if layer is None and tokens_after(chosen, layer_outputs, input_spec.leaves[which][0], which):
            self._before_tokens = chosen.info.path
        return chosen

    def _warn_about_tokens(self, input_spec: InputSpec) -> None:
        """Says once that the automatic choice is what goes into a transformer."""
        if self._warned or not self._before_tokens:
            return
        self._warned = True
        # Looked at once more, with a batch that can be told from windows that a transformer lays into it.
        layer_outputs = sampled_calls(self.model, input_spec)
        which = self._which(input_spec, None)
        chosen = [layer_output for layer_output in layer_outputs if layer_output.info.path == self._before_tokens][-1]
        tokens = tokens_after(chosen, layer_outputs, input_spec.leaves[which][0], which)
        if tokens is not None:
            warn_about_tokens(chosen.info.path, tokens.layers, tokens.candidates)

    # --- computing it -----------------------------------------------------------------------------------------------

    def _traced(self, images: Structure) -> Program:
        """The program for ``images``, tried on the first of them: only then is known what it gives for a sample."""
        flat, input_spec = flattened(standardized(images, self.model))
        target = self._chosen_target(None)
        values = target.arguments(len(flat[0]))
        program = self._program(input_spec, [self._with_maps(self._request(input_spec, target, values))], [self._layer])
        program([array[:1] for array in flat], [[array[:1] for array in values]])
        return program

    def _program(
        self, input_spec: InputSpec, requests: Sequence[Request], layers: Sequence[LayerLike] = (None,)
    ) -> Program:
        """One program for all requests, which share its forward pass; checks that their targets fit the model."""

        def traced() -> Program:
            check_channels_last(self.model, input_spec.leaves[requests[0].explained_input][0])
            program = self._engine.trace(self.model, input_spec, requests)
            if any(request.guided_backprop for request in requests):
                warn_about_guided_coverage(program)
            self._warn_about_tokens(input_spec)
            return program

        key = tuple((_key(request), _name(layer)) for request, layer in zip(requests, layers, strict=True))
        program = self._programs.get(input_spec, key, traced)
        for request in requests:
            if request.target is not None:
                request.target.check(program.outputs)
        return program

    def _passed(
        self, program: Program, flat: Sequence[np.ndarray], values: Sequence[Sequence[np.ndarray]]
    ) -> list[ForwardResult]:
        """The answers to all requests for all samples, ``batch_size`` at a time."""
        passes = []
        for start in range(0, len(flat[0]), self.batch_size):
            part = slice(start, start + self.batch_size)
            cut = [[array[part] for array in given] for given in values]
            passes.append(program([array[part] for array in flat], cut))
        return [
            ForwardResult(
                **{field.name: joined([getattr(one, field.name) for one in answers]) for field in fields(ForwardResult)}
            )
            for answers in zip(*passes, strict=True)
        ]

    def _explained(self, images: Structure, questions: Sequence[tuple[Target, LayerLike]]) -> list[Explanation]:
        """Answers several questions, a target and a layer each, in one forward pass."""
        flat, input_spec = flattened(standardized(images, self.model))
        values = [target.arguments(len(flat[0])) for target, _ in questions]
        requests = [
            self._with_maps(self._request(input_spec, target, given, layer))
            for (target, layer), given in zip(questions, values, strict=True)
        ]
        if len({request.explained_input for request in requests}) != 1:
            raise ArgumentError("layers", "be computed from one input", "layers of several inputs")
        program = self._program(input_spec, requests, [layer for _, layer in questions])
        found = []
        for request, layer, answer in zip(requests, program.layers, self._passed(program, flat, values), strict=True):
            path = None if layer is None else layer.path
            assert isinstance(request.target, Target)
            said = replace(program.outputs, predictions=answer.predictions)
            explanation = self._explanation(request, answer, flat, input_spec, path, said)
            warning = request.target.warning(explanation.scores, said)
            if warning:
                warnings.warn(warning, UserWarning, stacklevel=3)
            found.append(explanation)
        return found

    def _explanation(
        self,
        request: Request,
        answer: ForwardResult,
        flat: Sequence[np.ndarray],
        input_spec: InputSpec,
        layer: str | None,
        said: Outputs,
    ) -> Explanation:
        maps: dict[str, np.ndarray] = dict(answer.cams or {})
        size = input_spec.leaves[request.explained_input][0]
        if answer.guided_backprop is not None:
            maps["guided_backprop"] = answer.guided_backprop
        if "guided_gradcam" in self.methods:
            gradcam = maps["gradcam"]
            maps["guided_gradcam"] = guided_gradcam(
                maps["guided_backprop"], upsample(gradcam, size[: gradcam.ndim - 1])
            )
        pictures = flat[request.explained_input]
        if answer.gradient is not None:
            maps["saliency"] = saliency_map(answer.gradient)
            maps["input_x_gradient"] = pictures * answer.gradient
        completeness = None
        if request.resolved_arguments:
            sampled, completeness = self._sampled(request, answer, flat, input_spec)
            maps |= sampled
        # The product is not finite where one of its factors is not, which is said of that one.
        raw = {name: array for name, array in maps.items() if name != "guided_gradcam"}
        warn_about_infinities({"scores": answer.scores, **raw})
        assert answer.scores is not None
        assert isinstance(request.target, Target)
        explained = request.target.select_output(said)
        is_embedding = request.target.is_embedding
        probabilities = (
            None if is_embedding else class_probabilities(explained.predictions, explained.final_activations)
        )
        return Explanation(
            scores=answer.scores,
            predictions=answer.predictions,
            classes=answer.classes,
            probabilities=probabilities,
            layer=layer,
            maps={name: maps[name] for name in self.methods},
            images=pictures,
            completeness_error=completeness,
            target=repr(request.target),
        )

    def _sampled(
        self, request: Request, answer: ForwardResult, flat: Sequence[np.ndarray], input_spec: InputSpec
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """SmoothGrad and integrated gradients of what was explained in the pictures as they are; completeness error."""
        which, values = request.explained_input, answer.arguments or ()
        pictures = floating(flat[which])
        leaves = [*input_spec.leaves]
        leaves[which] = (leaves[which][0], str(pictures.dtype))
        alone = replace(request, cams={}, guided_backprop=False, gradient=True, resolved_arguments=False)
        program = self._program(replace(input_spec, leaves=tuple(leaves)), [alone])

        def passed(changed: np.ndarray, samples: np.ndarray) -> ForwardResult:
            inputs = [array[samples] for array in flat]
            inputs[which] = changed
            return program(inputs, [[array[samples] for array in values]])[0]

        def gradient(changed: np.ndarray, samples: np.ndarray) -> np.ndarray:
            found = passed(changed, samples).gradient
            assert found is not None
            return found

        maps = {}
        if "smoothgrad" in self.methods:
            maps["smoothgrad"] = smoothgrad(gradient, pictures, self.sampling, self.batch_size)
        if "integrated_gradients" not in self.methods:
            return maps, None
        maps["integrated_gradients"] = integrated_gradients(gradient, pictures, self.sampling, self.batch_size)
        baselines = baseline_of(self.sampling, pictures)
        everything = np.arange(len(pictures))
        parts = [everything[start : start + self.batch_size] for start in everything[:: self.batch_size]]
        before = np.concatenate([np.asarray(passed(baselines[part], part).scores) for part in parts])
        total = maps["integrated_gradients"].reshape(len(pictures), -1).sum(axis=1, dtype=np.float64)
        assert answer.scores is not None
        return maps, (total - (answer.scores - before)).astype(np.float32)


def _key(request: Request) -> Any:
    """What has to be traced anew when it changes, the layer aside."""
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


def _name(layer: LayerLike) -> Any:
    return layer if layer is None or isinstance(layer, str) else id(layer)


def explain(model: Any, images: Structure, **options: Any) -> Explanation:
    """Explains pictures in one call.

    The model is compiled for the purpose at every call; to explain many batches, keep an :class:`Explainer`.

    Args:
        model: Any Keras model; it is not changed.
        images: A batch of what the model takes.
        **options: Those of :class:`Explainer`: ``layer``, ``target``, ``methods``, ``batch_size``, ...

    Returns:
        The :class:`Explanation`.

    Raises:
        ValueError: As :class:`Explainer` does.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        >>> explain(model, np.ones((1, 8, 8, 3)), target=0, methods=["gradcam"]).gradcam.shape
        (1, 6, 6)
    """
    return Explainer(model, **options)(images)


def as_explainer(model: Explainer | Any, *, layer: LayerLike = None, **options: Any) -> Explainer:
    """Returns the explainer itself, or one of a model.

    Args:
        model: A Keras model, or an explainer, which keeps its own layer and options.
        layer: The layer to explain; not beside an explainer.
        **options: Those of :class:`Explainer`, for a model.

    Raises:
        ArgumentError: If a layer is named beside an explainer.
    """
    if not isinstance(model, Explainer):
        return Explainer(model, layer=layer, **options)
    if layer is not None:
        raise ArgumentError(
            "layer", "be given to the explainer", f"an explainer and layer={layer!r}", "Explainer(model, layer=...)"
        )
    return model


def warn_about_guided_coverage(program: Program) -> None:
    """Warns where guided backpropagation is not what it is in a network of ReLUs."""
    found = program.guided_coverage
    if not found.reached:
        others = ", ".join(found.others) or "no nonlinearity known here"
        warnings.warn(
            "The model holds no ReLU that the guided rule could reach, so `guided_backprop` is plain backpropagation. "
            f"Found instead: {others}.",
            UserWarning,
            stacklevel=4,
        )
    elif found.unreached:
        warnings.warn(
            f"{found.unreached} ReLU operations inside a loop or a branch, or recomputed in the backward pass, keep "
            "their ordinary gradient in `guided_backprop`; the guided rule reaches the others.",
            UserWarning,
            stacklevel=4,
        )
