"""Explain pictures: :class:`Explainer`, compiled once and called often, and :func:`explain`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from .embedding_targets import Norm, embeddings
from .engine import current_engine
from .engine.base import Capture, Outputs, Pass, Program, Request, Signature, Split, Structure
from .engine.recording import declared_inputs
from .explanation import Explanation
from .inputs import flattened, standardized
from .layers import LayerLike, choose_layer, explained_input, input_shape
from .maps import guided_gradcam, upsample
from .targets import Target, TargetLike, as_target

#: The methods an explainer knows, in the order of a panel.
METHODS = ("gradcam", "guided_backprop", "guided_gradcam")


class Explainer:
    """Explains a model again and again with its weights of the moment, compiled once.

    One forward pass serves all methods: Grad-CAM takes the ordinary gradient with respect to the feature map, guided
    backpropagation the guided gradient with respect to the input. Weights are read at every call; only a model whose
    layers, activations or variables were replaced is compiled anew.

    Args:
        model: Any Keras model: functional, sequential or subclassed, with nested models, several inputs or outputs.
            It is not changed.
        layer: The feature map to explain: a layer's name, a path such as "backbone/conv5_block3_out", the layer
            itself, or None for the last feature map with spatial extent. See :func:`keras_gradcam.list_layers`.
        target: What to explain: a class, one class per sample, a target such as ``Class(3) - Class(5)``, a function of
            the outputs, or None for the predicted class.
        methods: Which of "gradcam", "guided_backprop" and "guided_gradcam" to compute. Only what is needed is.
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
        methods: Sequence[str] = METHODS,
        batch_size: int = 32,
        layer_call: int | None = None,
        input_index: int | None = None,
    ) -> None:
        import keras

        methods = (methods,) if isinstance(methods, str) else tuple(methods)
        if not methods or not set(methods) <= set(METHODS):
            raise ValueError(
                f"`methods` must name at least one method. Received: {methods!r}. Candidates: {', '.join(METHODS)}."
            )
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"`batch_size` must be a whole number >= 1. Received: {batch_size!r}.")
        if not isinstance(model, keras.Layer):
            raise ValueError(
                f"`model` must be a Keras 3 model. Received: {type(model).__name__}. "
                "Candidates: keras.Model, keras.Sequential, a subclass of keras.Model."
            )
        self.model = model
        self.target = as_target(target)
        self.methods = methods
        self.batch_size = int(batch_size)
        self._layer = layer
        self._layer_call = layer_call
        self._input_index = input_index
        self._engine = current_engine()
        self._programs: dict[Any, Any] = {}
        self._structure: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        # A compiled model cannot be copied; it is compiled again when needed.
        return {**self.__dict__, "_programs": {}, "_structure": []}

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
        flat, signature = flattened(standardized(images, self.model))
        chosen = (self.target if target is None else as_target(target)).embedded(self._embedded)
        values = chosen.values(len(flat[0]))
        program = self._program(signature, chosen, values, maps=True)
        chosen.check(program.outputs)
        explanation = self._explanation(program, self._passed(program, flat, values), signature)
        remark = chosen.remark(explanation.scores)
        if remark:
            warnings.warn(remark, UserWarning, stacklevel=2)
        return explanation

    def predict(self, images: Structure) -> Structure:
        """The model's outputs for any number of pictures, as it returns them, with its weights of the moment.

        Raises:
            ValueError: If the pictures do not fit the model.
        """
        return self._outputs(images).predictions

    def score(self, images: Structure, target: TargetLike = None) -> np.ndarray:
        """The explained score of any number of pictures, float32 (N,), by a forward pass alone.

        Raises:
            ValueError: If the pictures or the target do not fit the model.
        """
        flat, signature = flattened(standardized(images, self.model))
        chosen = (self.target if target is None else as_target(target)).embedded(self._embedded)
        values = chosen.values(len(flat[0]))
        program = self._program(signature, chosen, values)
        chosen.check(program.outputs)
        scores = self._passed(program, flat, values).scores
        assert scores is not None
        return scores

    def embed(self, images: Structure) -> np.ndarray:
        """The embeddings of any number of pictures, float32 (N, D), with the model's weights of the moment.

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
        flat, signature = flattened(standardized(images, self.model))
        features = self._passed(self._program(signature, None, features=True), flat).features
        assert features is not None
        return features

    def outputs(self, images: Structure) -> Outputs:
        """Traces the model for ``images`` and returns the shapes and endings of its outputs, without running it.

        Raises:
            ValueError: As calling the explainer would.
        """
        program = self._traced(images)
        self.target.check(program.outputs)
        return program.outputs

    def layer_of(self, images: Structure) -> str | None:
        """Traces the model for ``images`` and returns the path of the explained layer; None without Grad-CAM."""
        layer = self._traced(images).layer
        return None if layer is None else layer.path

    def split(self, images: Structure) -> Split:
        """The model cut in two at the layer: up to it, and from it to the embedding. For pictures like these."""
        _, signature = flattened(standardized(images, self.model))

        def cut() -> Split:
            request = self._request(signature, self.target.instead(Norm()), ())
            return self._engine.split(self.model, signature, request)

        return self._compiled(signature, "split", cut)

    def explained_input(self, images: Structure) -> int:
        """Which of the inputs is explained, in flat order."""
        _, signature = flattened(standardized(images, self.model))
        return self._which(signature)

    def _traced(self, images: Structure) -> Program:
        flat, signature = flattened(standardized(images, self.model))
        target = self.target.embedded(self._embedded)
        return self._program(signature, target, target.values(len(flat[0])), maps=True)

    def _embedded(self, pictures: Structure) -> Outputs:
        """The model's outputs for reference pictures, one picture for all without a batch axis included."""
        expected = declared_inputs(self.model)
        if isinstance(pictures, np.ndarray) and len(expected) == 1 and pictures.ndim == len(expected[0].shape) - 1:
            pictures = pictures[None]
        return self._outputs(pictures)

    def _outputs(self, images: Structure) -> Outputs:
        flat, signature = flattened(standardized(images, self.model))
        program = self._program(signature, None)
        return replace(program.outputs, predictions=self._passed(program, flat).predictions)

    def _passed(self, program: Program, flat: Sequence[np.ndarray], values: Sequence[np.ndarray] = ()) -> Pass:
        """All samples, ``batch_size`` at a time."""
        passes = []
        for start in range(0, len(flat[0]), self.batch_size):
            part = slice(start, start + self.batch_size)
            passes.append(program([array[part] for array in flat], [array[part] for array in values]))
        return Pass(**{field.name: _joined([getattr(one, field.name) for one in passes]) for field in fields(Pass)})

    def _program(
        self,
        signature: Signature,
        target: Target | None,
        values: tuple[np.ndarray, ...] = (),
        *,
        maps: bool = False,
        features: bool = False,
    ) -> Program:
        shapes = tuple((array.shape[1:], str(array.dtype)) for array in values)

        def traced() -> Program:
            request = self._request(signature, target, values)
            if not maps:
                request = replace(request, gradcam=False, guided_backprop=False, features=features)
            program = self._engine.trace(self.model, signature, request)
            if request.guided_backprop:
                _warn_about_rectifiers(program)
            return program

        return self._compiled(signature, (None if target is None else target.key(), shapes, maps, features), traced)

    def _compiled(self, signature: Signature, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` returns, made once for inputs of one signature as long as the model stays the same."""
        self._engine.build(self.model, signature)
        structure = _structure(self.model)
        if not _identical(structure, self._structure):
            self._programs.clear()
            self._structure = structure
        key = (signature.key(), key)
        if key not in self._programs:
            _check_channels_last(self.model, input_shape(signature, self._input_index))
            self._programs[key] = make()
            while len(self._programs) > _KEPT_PROGRAMS:
                del self._programs[next(iter(self._programs))]
        return self._programs[key]

    def _request(self, signature: Signature, target: Target | None, values: tuple[np.ndarray, ...]) -> Request:
        which = self._which(signature)
        return Request(
            target=target,
            values=values,
            select=lambda captures: self._chosen(captures, signature, which),
            explained_input=which,
            gradcam="gradcam" in self.methods or "guided_gradcam" in self.methods,
            guided_backprop="guided_backprop" in self.methods or "guided_gradcam" in self.methods,
        )

    def _which(self, signature: Signature) -> int:
        """The explained input."""
        default = explained_input(signature, self._input_index)
        alike = [len(shape) for shape, _ in signature.leaves].count(len(signature.leaves[default][0]))
        if self._input_index is not None or self._layer is None or alike == 1:
            return default

        def found() -> int:
            captures = self._engine.layer_calls(self.model, signature)
            inputs = self._chosen(captures, signature, default).inputs
            return inputs[0] if inputs and default not in inputs else default

        return self._compiled(signature, "input", found)

    def _chosen(self, captures: Sequence[Capture], signature: Signature, which: int) -> Capture:
        shape = signature.leaves[which][0]
        chosen = choose_layer(self.model, captures, shape, self._layer, self._layer_call, which)
        if self._input_index is not None and chosen.inputs and which not in chosen.inputs:
            raise ValueError(
                "`layer` must be computed from the explained input. "
                f"Received: call {chosen.info.call} of {chosen.info.path!r}, and input_index={which}. "
                f"Candidates: input_index={chosen.inputs[0]}, another layer_call."
            )
        return chosen

    def _explanation(self, program: Program, joined: Pass, signature: Signature) -> Explanation:
        for name in ("scores", "gradcam", "guided_backprop"):
            array = getattr(joined, name)
            if array is not None and not np.isfinite(array).all():
                bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
                warnings.warn(
                    f"`{name}` is not finite for {bad.sum()} of {len(bad)} samples. The model's weights or outputs are "
                    "likely not finite there, or a 16-bit gradient overflowed.",
                    RuntimeWarning,
                    stacklevel=3,
                )
        heatmap = weighted = None
        if joined.gradcam is not None:
            # Grad-CAM has the spatial axes of the input; what is left of the input's is its channels.
            shape = signature.leaves[self._which(signature)][0]
            heatmap = upsample(joined.gradcam, shape[: joined.gradcam.ndim - 1])
            if "guided_gradcam" in self.methods:
                weighted = guided_gradcam(joined.guided_backprop, heatmap)
        wanted = set(self.methods)
        assert joined.scores is not None
        return Explanation(
            scores=joined.scores,
            predictions=joined.predictions,
            classes=joined.classes,
            layer=program.layer.path if program.layer is not None else None,
            gradcam=joined.gradcam if "gradcam" in wanted else None,
            heatmap=heatmap if "gradcam" in wanted else None,
            guided_backprop=joined.guided_backprop if "guided_backprop" in wanted else None,
            guided_gradcam=weighted,
        )


def _structure(model: Any) -> list[Any]:
    """The objects that a compiled model stands on: when one is replaced, it is another model."""
    layers = model._flatten_layers()
    return [*layers, *(getattr(layer, "activation", None) for layer in layers), *model.variables]


def _identical(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _check_channels_last(model: Any, shape: Sequence[int]) -> None:
    first = [layer for layer in model._flatten_layers() if getattr(layer, "data_format", None) == "channels_first"]
    if first:
        raise ValueError(
            "`model` must have its channels last. "
            f"Received: layer {first[0].name!r} with data_format='channels_first'. "
            "Candidates: the same model built with data_format='channels_last'."
        )
    if len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 4:
        warnings.warn(
            f"The input of shape {tuple(shape)} looks as if its channels came first; it is read as (H, W, C), and maps "
            "are laid out accordingly.",
            UserWarning,
            stacklevel=4,
        )


# Each program holds a graph; functions made anew for every call as targets must not pile them up.
_KEPT_PROGRAMS = 8


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


def _joined(parts: Sequence[Structure]) -> Structure:
    """Concatenates structures of arrays, sample by sample."""
    first = parts[0]
    if first is None or len(parts) == 1:
        return first
    if isinstance(first, dict):
        return {name: _joined([part[name] for part in parts]) for name in first}
    if isinstance(first, (list, tuple)):
        return type(first)(_joined(list(column)) for column in zip(*parts, strict=True))
    return np.concatenate(parts)


def _warn_about_rectifiers(program: Program) -> None:
    found = program.rectifiers
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
