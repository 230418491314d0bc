"""Explain pictures: :class:`Explainer`, compiled once and called often, and :func:`explain`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from ..engine.base import Structure
from ..errors import ArgumentError, check_type, check_whole_number
from ..grids import upsample
from .coverage import SMALLEST, warn_about_signs
from .explanation import Explained, Explanation, shortened, warn_about_infinities
from .inputs import check_model, floating, preprocessed, standardized
from .layers import LayerLike, described
from .methods.formulas import guided_gradcam, saliency_map
from .methods.names import DEFAULT_METHODS, MethodsLike, method_names
from .methods.sampling import SmoothGrad, integrated, samplers
from .runner import Answer, Runner
from .saturation import warn_about_vanished_gradients
from .targets.base import Target, TargetLike
from .targets.classes import TopClass
from .targets.embeddings import embeddings
from .targets.outputs import as_target
from .targets.probabilities import class_probabilities, is_value


class Explainer:
    """Explains a model again and again with its current weights, compiled once.

    One forward pass serves all methods: CAMs take the ordinary gradient with respect to the feature map, guided
    backpropagation the guided gradient with respect to the input; only SmoothGrad and integrated gradients take many
    passes. Weights are read at every call; a model is compiled again only if its layers, activations or variables were
    replaced.

    Args:
        model: Any Keras model: functional, sequential or subclassed, with nested models, several inputs or outputs.
            It is not changed.
        layer: The feature map to explain: a layer's name, a path such as "backbone/conv5_block3_out", the layer
            itself, or None for the last feature map with the axes of the input. Of a transformer that is what goes into
            it, so name a layer of tokens there. See :func:`keras_gradcam.list_layers`.
        target: What to explain: a class, labels (class numbers or one-hot rows, one per sample), a target such as
            ``Class(3) - Class(5)``, a function of the outputs, or None for the predicted class.
        methods: What to compute. On the layer's grid: "gradcam", "gradcam_plus_plus", "hirescam", "xgradcam",
            "layercam"; at the size of the input: "guided_backprop", "guided_gradcam", "saliency", "input_x_gradient",
            "smoothgrad", "integrated_gradients". The last two also as objects with options:
            ``["gradcam", SmoothGrad(samples=50), IntegratedGradients(steps=64)]``. Only what is needed is computed.
        batch_size: How many samples go through the model at once.
        layer_call: Which call of a layer that the model calls several times (0 first, -1 last).
        input_index: Which of several inputs to explain, in flat order; by default the first of the highest rank, or the
            one that goes into the named call of the layer (of a siamese model).

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
        methods: MethodsLike = DEFAULT_METHODS,
        batch_size: int = 32,
        layer_call: int | None = None,
        input_index: int | None = None,
    ) -> None:
        check_whole_number("batch_size", batch_size, 1)
        check_model(model)
        for name, number in (("layer_call", layer_call), ("input_index", input_index)):
            if number is not None:
                check_type(name, number, Integral, "be a whole number or None")
        self.model = model
        self.target = as_target(target)
        self.methods = method_names(methods)
        self.batch_size = int(batch_size)
        self._samplers = samplers(methods)
        self._warned_about_signs = False
        #: Runs the model; for use within this package.
        self.runner = Runner(
            model,
            target=self.target,
            layer=layer,
            methods=self.methods,
            batch_size=self.batch_size,
            layer_call=layer_call,
            input_index=input_index,
        )

    def __call__(self, images: Structure, target: TargetLike = None) -> Explanation:
        """Explains a batch of pictures of any length.

        Args:
            images: What the model takes: an array (N, H, W, C) of any real dtype as the model expects its values, or a
                list or dict of arrays for several inputs. Integers are converted to floating point, not rescaled. Of a
                model with a ``preprocessor`` that its ``predict`` applies (a task of KerasHub), what ``predict`` takes.
            target: What to explain instead of the explainer's own target.

        Returns:
            The :class:`Explanation` of all N samples.

        Raises:
            ValueError: If the pictures, the layer or the target do not fit the model.
        """
        (explanation,) = self._explain(images, [(self._resolved_target(target), self.runner.layer)])
        return explanation

    def top_classes(self, images: Structure, count: int = 3) -> tuple[Explanation, ...]:
        """Explains the classes that the model finds most likely, best first, in one forward pass.

        Of a model with several outputs those of the one that the explainer's target names.

        Args:
            images: As for calling the explainer.
            count: How many classes.

        Returns:
            One :class:`Explanation` of all N samples for each rank.

        Raises:
            ValueError: As calling the explainer does, and if the model has fewer classes.
        """
        targets = [self.target.on_same_output(TopClass(rank)) for rank in range(count)]
        return tuple(self._explain(images, [(target, self.runner.layer) for target in targets]))

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
        target = self._resolved_target(None)
        explanations = self._explain(images, [(target, layer) for layer in layers])
        return {str(explanation.layer): explanation for explanation in explanations}

    def predict(self, images: Structure) -> Structure:
        """Returns the model's outputs for any number of pictures, as it returns them, with its current weights.

        Raises:
            ValueError: If the pictures do not fit the model.
        """
        return self.runner.predicted(images).predictions

    def score(self, images: Structure, target: TargetLike = None) -> np.ndarray:
        """Returns the explained score of any number of pictures, float32 (N,), by a forward pass alone.

        Raises:
            ValueError: If the pictures or the target do not fit the model.
        """
        return self.runner.scores(images, self._resolved_target(target))

    def embed(self, images: Structure) -> np.ndarray:
        """Returns the embeddings of any number of pictures, float32 (N, D), with the model's current weights.

        Of several outputs it is the one that the target names.

        Raises:
            ValueError: If the pictures do not fit the model.
        """
        return embeddings(self.runner.predicted(images), self.target)

    def features(self, images: Structure) -> np.ndarray:
        """Returns the feature map of the layer, float32 (N, h, w, channels).

        Raises:
            ValueError: If the pictures or the layer do not fit the model.
        """
        return self.runner.features(images)

    def explained_layer(self, images: Structure) -> str | None:
        """Returns the path of the layer whose feature map is explained in pictures like these.

        Args:
            images: As for calling the explainer. The model is tried on the first of them.

        Returns:
            The path, as :func:`keras_gradcam.list_layers` gives it; None without any method that explains a layer.

        Raises:
            ValueError: As calling the explainer does.
        """
        return self.runner.explained_layer(images)

    def with_target(self, target: TargetLike) -> Explainer:
        """Returns an explainer of the same maps for another target, which shares what was compiled."""
        explainer = copy.copy(self)
        explainer.target = as_target(target)
        explainer.runner = copy.copy(self.runner)
        explainer.runner.target = explainer.target
        return explainer

    def prepared(self, images: Structure) -> tuple[Explainer, Structure]:
        """Returns an explainer that takes what the network itself takes, and these pictures so prepared and checked.

        It differs from this explainer for a model with a ``preprocessor``, such as a task of KerasHub, which is
        explained on what its ``predict`` makes of pictures.

        Raises:
            ValueError: If the pictures do not fit the model.
        """
        if self.runner.takes_network_inputs:
            return self, standardized(images, self.model)
        explainer = copy.copy(self)
        explainer.runner = copy.copy(self.runner)
        explainer.runner.takes_network_inputs = True
        return explainer, standardized(preprocessed(images, self.model), self.model)

    def __repr__(self) -> str:
        layer = "the last feature map" if self.runner.layer is None else described(self.runner.layer)
        target = shortened(repr(self.target))
        return f"Explainer({self.model.name!r}, layer={layer}, target={target}, methods={self.methods})"

    def _resolved_target(self, target: TargetLike) -> Target:
        """Returns the target of a call, its reference pictures embedded."""
        chosen = self.target if target is None else as_target(target)
        return chosen.with_embedded_references(self.runner.embed_references)

    def _explain(self, images: Structure, questions: Sequence[tuple[Target, LayerLike]]) -> list[Explanation]:
        """Explains the same pictures once for each question, a target and a layer."""
        explanations = []
        for answer in self.runner.answers(images, questions):
            explanation = self._explanation(answer)
            warning = answer.target.warning(explanation.scores, answer.outputs)
            if warning:
                warnings.warn(warning, UserWarning, stacklevel=3)
            explanations.append(explanation)
        return explanations

    def _explanation(self, answer: Answer) -> Explanation:
        """Makes all maps out of what the model answered."""
        result, pictures = answer.result, answer.pictures
        maps: dict[str, np.ndarray] = dict(result.cams or {})
        smallest = maps.pop(SMALLEST, None)
        if smallest is not None and not self._warned_about_signs:
            self._warned_about_signs = warn_about_signs(self.methods, answer.layer, smallest)
        if result.guided_backprop is not None:
            maps["guided_backprop"] = result.guided_backprop
        if "guided_gradcam" in self.methods:
            assert answer.placement is not None
            size, rank = answer.placement.size(pictures.shape[1:]), pictures.ndim - 1
            heatmap = answer.placement.over(upsample(maps["gradcam"], size, answer.placement.spans), rank)
            maps["guided_gradcam"] = guided_gradcam(maps["guided_backprop"], heatmap)
        if result.gradient is not None:
            gradient = answer.channels_last(result.gradient)
            has_channels = answer.placement is None or gradient.ndim > 1 + len(answer.placement.axes)
            maps["saliency"] = saliency_map(gradient if has_channels else gradient[..., None])
            maps["input_x_gradient"] = pictures * result.gradient
        sampled, completeness_error = self._sampled(answer)
        maps |= sampled
        # Skip the product: its factors are warned about.
        warn_about_infinities(
            {"scores": result.scores, **{name: array for name, array in maps.items() if name != "guided_gradcam"}}
        )
        assert result.scores is not None
        explained = answer.target.select_output(answer.outputs)
        # A class of a value was named, or else is below zero.
        has_classes = not is_value(explained) or (result.classes is not None and (result.classes >= 0).all())
        warn_about_vanished_gradients(answer.target, answer.outputs)
        return Explanation(
            scores=result.scores,
            predictions=result.predictions,
            classes=result.classes if has_classes else None,
            probabilities=class_probabilities(explained.predictions, explained.final_activations)
            if has_classes and not answer.target.is_embedding
            else None,
            maps={name: maps[name] for name in self.methods},
            images=pictures,
            completeness_error=completeness_error,
            explained=Explained(
                answer.layer,
                repr(answer.target),
                "value" if answer.target.quantity_of(answer.outputs)[0] == "value" else "score",
            ),
            placement=answer.placement,
        )

    def _sampled(self, answer: Answer) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Computes SmoothGrad and integrated gradients, and the completeness error of the latter."""
        if not self._samplers:
            return {}, None
        pictures = floating(answer.pictures)
        run = self.runner.changed_run(answer)

        def gradient(changed: np.ndarray, samples: np.ndarray) -> np.ndarray:
            values = run(changed, samples).gradient
            assert values is not None
            return values

        maps, error = {}, None
        for name, sampler in self._samplers.items():
            if isinstance(sampler, SmoothGrad):
                maps[name] = sampler.maps(gradient, pictures, self.batch_size)
                continue
            baselines, every = sampler.baselines(pictures), np.arange(len(pictures))
            batches = [every[start : start + self.batch_size] for start in every[:: self.batch_size]]
            before = np.concatenate([np.asarray(run(baselines[batch], batch).scores) for batch in batches])
            gain = np.asarray(answer.result.scores, np.float64) - before
            maps[name], error = integrated(sampler, gradient, pictures, gain, self.batch_size)
        return maps, error


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
