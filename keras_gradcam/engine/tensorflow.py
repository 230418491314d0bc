"""The engine for TensorFlow: one forward pass, two backward passes through it, the model untouched."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..maps import CAM_FORMULAS
from .base import Capture, LayerCall, Outputs, Pass, Request, Signature, Structure
from .grid import token_grid
from .recording import declared_inputs, recorded_calls
from .tensorflow_relu import attach_guided_rule, guided, recomputed

_ENDINGS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
_PASS_THROUGH = {"Identity", "Cast", "StopGradient", "EnsureShape"}
# Factors for float16 gradients, tried from the left until everything is finite.
_LOSS_SCALES = (1024.0, 32.0, 1.0, 1 / 32, 1 / 1024, 1 / 32768)


# What may stand behind a normalisation without changing the direction, but for constant factors.
_RESHAPING = {*_PASS_THROUGH, "Reshape", "Squeeze", "ExpandDims"}
# What an L2 norm, or its inverse, is computed with beside squares, a sum and a root.
_NORM = {
    *("Square", "Mul", "Abs", "Sum", "Sqrt", "Rsqrt", "Reciprocal", "RealDiv", "Maximum", "Minimum", "AddV2"),
    *("Squeeze", "ExpandDims", "Reshape", "StridedSlice", "Shape", "Pack", "Const", "Identity", "Cast"),
}
_POWERS = {2.0: "Square", 0.5: "Sqrt", -0.5: "Rsqrt", -1.0: "Reciprocal"}
# What keeps a norm from zero is no larger than this.
_EPSILON = 1e-2

_Function: Any = type(tf.function(lambda: None))


@contextmanager
def _functions_inlined() -> Iterator[None]:
    """A ``tf.function`` that this thread calls in this context is traced into the current graph, not one of its own.

    TensorFlow's own switch, ``run_functions_eagerly``, is for all threads and skips AutoGraph.
    """
    owner, original = threading.get_ident(), _Function.__call__
    context = tf.__internal__.autograph.control_status_ctx()
    converting = type(context)(status=type(context.status).ENABLED)

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != owner or tf.config.functions_run_eagerly():
            return original(function, *args, **kwargs)
        if not getattr(function, "_autograph", True):
            return function.python_function(*args, **kwargs)
        return tf.__internal__.autograph.tf_convert(function.python_function, converting)(*args, **kwargs)

    _Function.__call__ = call
    try:
        yield
    finally:
        _Function.__call__ = original


def _before_ending(output: tf.Tensor) -> tuple[tf.Tensor, str]:
    """The scores before the softmax or sigmoid that ``output`` ends in, and the name of that ending."""
    tensor = output
    while tensor.op.type in _PASS_THROUGH:
        tensor = tensor.op.inputs[0]
    ending = _ENDINGS.get(tensor.op.type, "")
    return (tensor.op.inputs[0], ending) if ending else (output, "")


def _before_normalization(output: tf.Tensor) -> tf.Tensor:
    """What stands before the L2 normalisation (and a fixed factor after it) that ``output`` ends in, or ``output``."""
    tensor = output
    while True:
        if tensor.op.type in _RESHAPING:
            tensor = tensor.op.inputs[0]
            continue
        if tensor.op.type not in ("Mul", "RealDiv", "AddV2"):
            return output
        one, other = tensor.op.inputs
        if tensor.op.type != "RealDiv" and (
            one.shape.num_elements() == 1 or _constant(one) is not None or one.shape[-1] == 1
        ):
            one, other = other, one
        constant = _constant(other)
        learned = tensor.op.type != "AddV2" and other.shape.num_elements() == 1
        if learned or (constant is not None and (constant == 0) == (tensor.op.type == "AddV2")):
            tensor = one
            continue
        return one if tensor.op.type != "AddV2" and _is_norm_of(other, one, tensor.op.type == "Mul") else output


def _constant(tensor: tf.Tensor) -> float | None:
    """The value of a tensor that is one number everywhere and always, or None."""
    value = tf.get_static_value(tensor)
    return float(value.flat[0]) if value is not None and value.size and (value == value.flat[0]).all() else None


def _is_norm_of(scale: tf.Tensor, tensor: tf.Tensor, inverse: bool) -> bool:
    """Whether ``scale`` is one number per sample, computed as the L2 norm of ``tensor`` or, if wanted, its inverse."""
    one_per_sample = scale.shape.rank == tensor.shape.rank and all(extent == 1 for extent in scale.shape[1:])
    if not one_per_sample or tensor.shape[1:].num_elements() == 1:
        return False
    types: set[str] = set()
    todo = [scale]
    while todo:
        one = todo.pop()
        if one is tensor:
            continue
        kind, inputs = one.op.type, list(one.op.inputs)
        constants = [value for value in map(_constant, inputs) if value is not None]
        if kind == "Pow":
            kind, inputs = _POWERS.get(constants[0] if constants else 0.0, "Pow"), inputs[:1]
        # More than an epsilon beside the squares, or a quotient of two things that vary, is no plain norm.
        if (kind == "AddV2" and not any(abs(value) <= _EPSILON for value in constants)) or (
            kind == "RealDiv" and _constant(inputs[0]) is None
        ):
            return False
        types.add(kind)
        todo.extend(inputs)
    inverted = "Rsqrt" in types or ("Sqrt" in types and bool(types & {"Reciprocal", "RealDiv"}))
    rooted = inverted if inverse else "Sqrt" in types and not inverted
    return rooted and "Sum" in types and bool(types & {"Square", "Mul"}) and types <= _NORM


def _model_outputs(model: Any, predictions: Structure) -> Outputs:
    flat = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(predictions)]
    endings = [_before_ending(leaf) for leaf in flat]
    unnormalized = [_before_normalization(leaf) for leaf in flat]
    names_of_endings = [
        ending or ("" if before is leaf else "l2_normalization")
        for leaf, (_, ending), before in zip(flat, endings, unnormalized, strict=True)
    ]

    def pack(leaves: Sequence[Any]) -> Structure:
        return tf.nest.pack_sequence_as(predictions, leaves)

    names = getattr(model, "output_names", None) or ()
    return Outputs(
        pack(flat),
        pack([logits for logits, _ in endings]),
        pack(names_of_endings),
        pack(unnormalized),
        tuple(names) if len(names) == len(flat) else (),
    )


def _ancestors(tensors: Sequence[tf.Tensor], without: tf.Tensor = None) -> set[int]:
    """The ids of all tensors that ``tensors`` are computed from, themselves included, other than through one."""
    seen: set[int] = set() if without is None else {id(without)}
    todo = list(tensors)
    while todo:
        tensor = todo.pop()
        if id(tensor) not in seen:
            seen.add(id(tensor))
            todo.extend(tensor.op.inputs)
    return seen


def _sources(inputs: Sequence[tf.Tensor]) -> dict[int, frozenset[int]]:
    """For the id of each tensor of the graph, which of ``inputs`` it is computed from."""
    found = {id(tensor): frozenset([index]) for index, tensor in enumerate(inputs)}
    none: frozenset[int] = frozenset()
    for operation in inputs[0].graph.get_operations():
        above = none.union(*(found.get(id(tensor), none) for tensor in operation.inputs))
        for tensor in operation.outputs:
            found.setdefault(id(tensor), above)
    return found


def _forward(model: Any, inputs: Structure) -> tuple[Structure, list[Capture]]:
    """Traces ``model(inputs, training=False)`` into the current graph, with what every layer returned.

    State that a forward pass would change (counters, seeds, moving averages that ignore ``training``) goes into a
    Keras stateless scope and is dropped.
    """
    graph = tf.compat.v1.get_default_graph()
    with recorded_calls(model) as captures, _functions_inlined(), keras.StatelessScope():
        predictions = model(inputs, training=False)
    # Layers called inside control flow returned tensors of another graph, which cannot be used from here.
    return predictions, [capture for capture in captures if getattr(capture.output, "graph", None) is graph]


def _marked(
    captures: Sequence[Capture], ends: Sequence[tf.Tensor], outputs: Outputs, inputs: Sequence[tf.Tensor]
) -> list[Capture]:
    """The captures, marked with what they come from, whether ``ends`` depend on them and whether they are outputs."""
    upstream = _ancestors(ends)
    sources = _sources(inputs)
    final = {id(leaf) for leaf in (*tf.nest.flatten(outputs.predictions), *tf.nest.flatten(outputs.logits))}
    return [
        replace(
            capture,
            influences_score=id(capture.output) in upstream,
            is_model_output=id(capture.output) in final,
            inputs=tuple(sorted(sources.get(id(capture.output), ()))),
        )
        for capture in captures
    ]


def _float_inputs(model: Any, structure: Structure, inputs: Sequence[tf.Tensor], explained: int) -> list[tf.Tensor]:
    """The explained input as floating point, unless the model itself takes integers there."""
    inputs = list(inputs)
    declared = declared_inputs(model, structure)
    wanted = declared[explained].dtype if len(declared) == len(inputs) else "float32"
    if not inputs[explained].dtype.is_floating and not keras.backend.is_int_dtype(wanted):
        inputs[explained] = tf.cast(inputs[explained], keras.config.floatx())
    return inputs


def _gradient(scores: tf.Tensor, scale: tf.Tensor, of: tf.Tensor, message: str) -> tf.Tensor:
    """d(sum of scores)/d(of) in float32; ``scale`` keeps half precision away from zero on the way."""
    (gradient,) = tf.gradients(scores, [of], grad_ys=[tf.fill(tf.shape(scores), scale)])
    if gradient is None:
        raise ValueError(message)
    return tf.cast(gradient, tf.float32) / scale


def _scores(target: Any, outputs: Outputs, values: Sequence[tf.Tensor]) -> tf.Tensor:
    scores = tf.convert_to_tensor(target.scores(outputs, values))
    batch = tf.nest.flatten(outputs.predictions)[0].shape[0]
    # `outputs[0]` instead of `outputs[:, 0]` has a fixed length, that of the classes.
    if scores.shape.rank != 1 or scores.shape[0] not in (None, batch):
        raise ValueError(
            "`target` must give one score per sample, shape (batch,). "
            f"Received: shape {tuple(scores.shape)} from {target!r}. "
            "Candidates: reduce the other axes, for example `lambda outputs: outputs[:, 0]`."
        )
    return tf.cast(scores, tf.float32)


class TensorFlowProgram:
    """A compiled model with some requests; see :class:`keras_gradcam.engine.base.Program`."""

    def __init__(self, model: Any, signature: Signature, requests: Sequence[Request]) -> None:
        layers: list[LayerCall | None] = []
        specs = [[tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in one.values] for one in requests]
        self._half = _computes_in_float16(model)

        def passes(inputs: Sequence[tf.Tensor], values: Sequence[Any], scales: tf.Tensor) -> dict[str, Any]:
            inputs = _float_inputs(model, signature.structure, inputs, requests[0].explained_input)
            predictions, captures = _forward(model, tf.nest.pack_sequence_as(signature.structure, inputs))
            graph = tf.compat.v1.get_default_graph()
            rectifiers = attach_guided_rule(graph)
            forward = len(graph.get_operations())
            outputs = _model_outputs(model, predictions)
            answers = []
            for request, given in zip(requests, values, strict=True):
                answer, layer = _answer(request, inputs, outputs, captures, given, scales)
                answers.append(answer)
                layers.append(layer)
            self.outputs = _shapes(outputs)
            self.rectifiers = replace(
                rectifiers,
                unreached=rectifiers.unreached + recomputed(graph, forward),
                others=tuple(sorted({*rectifiers.others, *_activation_names(model)})),
            )
            # For a feature map alone what comes after it need not be computed.
            whole = any(request.target is not None or not request.features for request in requests)
            return {"answers": answers, **({"predictions": outputs.predictions} if whole else {})}

        self._function = _compiled(passes, [_specs(signature), specs, tf.TensorSpec((2,), tf.float32)])
        self.layers = tuple(layers)

    def __call__(self, inputs: Sequence[np.ndarray], values: Sequence[Sequence[np.ndarray]]) -> list[Pass]:
        scales = [0, 0]
        while True:
            factors = [_LOSS_SCALES[index] if self._half else 1.0 for index in scales]
            arrays = (*inputs, *(array for given in values for array in given), np.array(factors, np.float32))
            results = self._function(*(tf.convert_to_tensor(array) for array in arrays))
            results = tf.nest.map_structure(lambda tensor: tensor.numpy(), results)
            overflown = [
                index
                for index, names in enumerate((("cams",), ("gradient", "guided_backprop")))
                if self._half and not _finite([answer.get(name) for answer in results["answers"] for name in names])
            ]
            if not overflown or any(scales[index] + 1 == len(_LOSS_SCALES) for index in overflown):
                break
            for index in overflown:
                scales[index] += 1
        for answer, layer in zip(results["answers"], self.layers, strict=True):
            for array in (*answer.get("cams", {}).values(), *([answer["features"]] if "features" in answer else [])):
                _check_batch(layer, len(array), len(inputs[0]))
            if "scores" in answer and len(answer["scores"]) != len(inputs[0]):
                raise ValueError(
                    "`target` must give one score per sample. "
                    f"Received: {len(answer['scores'])} scores for {len(inputs[0])} samples."
                )
        return [Pass(results.get("predictions"), **answer) for answer in results["answers"]]


def _answer(
    request: Request,
    inputs: Sequence[tf.Tensor],
    outputs: Outputs,
    captures: Sequence[Capture],
    values: Sequence[tf.Tensor],
    scales: tf.Tensor,
) -> tuple[dict[str, Any], LayerCall | None]:
    """The results of one request as symbolic tensors, and the layer it has chosen."""
    answer: dict[str, Any] = {}
    explained = inputs[request.explained_input]
    ends, scores = tf.nest.flatten(outputs.predictions), None
    if request.target is not None:
        request.target.check(_shapes(outputs))
        scores = _scores(request.target, outputs, values)
        ends = [scores]
        answer["scores"] = scores
        classes = request.target.classes(outputs, values)
        if classes is not None:
            answer["classes"] = classes
        if request.settled:
            answer["values"] = request.target.settled(outputs, values)
    if request.cams or request.features:
        capture = request.select(_marked(captures, ends, outputs, inputs))
        shape = explained.shape[1:]
        features = _on_grid(tf.cast(capture.output, tf.float32), capture.info, shape)
        if request.features:
            answer["features"] = features
    if request.cams:
        gradients = _gradient(
            scores,
            scales[0],
            capture.output,
            f"`layer` must influence the target. Received: {capture.info.path!r}, "
            "whose output the explained score does not depend on. "
            "Candidates: a layer between the input and the explained output, outside of blocks that are "
            "recomputed (keras.remat); see list_layers(model).",
        )
        gradients = _on_grid(gradients, capture.info, shape)
        answer["cams"] = {name: CAM_FORMULAS[name](features, gradients) for name in request.cams}
    message = (
        "`model` must be differentiable from the score to its input for this method. "
        f"Received: an input of dtype {explained.dtype.name}, to which no gradient flows. "
        'Candidates: methods=("gradcam",), or a model whose input is floating point.'
    )
    if request.gradient:
        answer["gradient"] = _gradient(scores, scales[1], explained, message)
    if request.guided_backprop:
        with guided():
            answer["guided_backprop"] = _gradient(scores, scales[1], explained, message)
    return answer, capture.info if request.cams or request.features else None


def _finite(structure: Any) -> bool:
    return all(np.isfinite(array).all() for array in tf.nest.flatten(structure) if array is not None)


def _check_batch(layer: LayerCall | None, maps: int, samples: int) -> None:
    if layer is not None and maps != samples:
        raise ValueError(
            "`layer` must give one map per sample. "
            f"Received: {layer.path!r}, which gives {maps} for {samples}: the model lays something else into the "
            "batch there. Candidates: those of list_layers(model)."
        )


class TensorFlowSplit:
    """A compiled model cut at a layer; see :class:`keras_gradcam.engine.base.Split`."""

    layer: LayerCall
    grid: tuple[int, ...]

    def __init__(self, model: Any, signature: Signature, request: Request) -> None:
        def forward(inputs: Sequence[tf.Tensor]) -> dict[str, Any]:
            inputs = _float_inputs(model, signature.structure, inputs, request.explained_input)
            predictions, captures = _forward(model, tf.nest.pack_sequence_as(signature.structure, inputs))
            outputs = _model_outputs(model, predictions)
            assert request.target is not None
            request.target.check(_shapes(outputs))
            embedding = request.target.narrow(outputs).unnormalized
            capture = request.select(_marked(captures, [embedding], outputs, inputs))
            self.layer = capture.info
            self.grid = token_grid(capture.info.output_shape, signature.leaves[request.explained_input][0][:-1]) or ()
            if _ancestors([embedding], capture.output).intersection(map(id, inputs)):
                raise ValueError(
                    "`layer` must be one through which all goes from the pictures to the embedding. "
                    f"Received: {capture.info.path!r}, which a branch of the model passes by. "
                    "Candidates: a layer after the branches have joined; form='gradient'."
                )
            return {"features": capture.output, "embedding": embedding}

        traced = tf.compat.v1.wrap_function(forward, [_specs(signature)])
        ends = traced.structured_outputs
        self._body = _pruned(traced, traced.inputs[: len(signature.leaves)], [ends["features"], ends["embedding"]])
        self._head = _pruned(traced, [ends["features"]], [ends["embedding"]])
        self._dtype = ends["features"].dtype

    def body(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        features, embedding = self._body(*(tf.convert_to_tensor(array) for array in inputs))
        _check_batch(self.layer, len(features), len(inputs[0]))
        return _float32(features), _float32(embedding)

    def head(self, features: np.ndarray) -> np.ndarray:
        (embedding,) = self._head(tf.cast(features, self._dtype))
        return _float32(embedding)


def _float32(tensor: tf.Tensor) -> np.ndarray:
    return tf.cast(tensor, tf.float32).numpy()


def _on_grid(features: tf.Tensor, info: LayerCall, shape: Sequence[int]) -> tf.Tensor:
    """A feature map with the spatial axes of the input: tokens (batch, tokens, channels) are laid out on their grid."""
    if features.shape.rank > len(shape):
        return features
    grid = token_grid(info.output_shape, shape[:-1]) or ()
    patches = features[:, features.shape[1] - math.prod(grid) :]
    return tf.reshape(patches, (-1, *grid, features.shape[-1]))


def _computes_in_float16(model: Any) -> bool:
    return any(getattr(layer, "compute_dtype", None) == "float16" for layer in model._flatten_layers())


def _activation_names(model: Any) -> set[str]:
    """Names of the activations, other than rectifiers and endings, that the model's layers declare."""
    plain = {"linear", "relu", "relu6", "leaky_relu", "softmax", "log_softmax", "sigmoid"}
    names = {getattr(getattr(layer, "activation", None), "__name__", "linear") for layer in model._flatten_layers()}
    return names - plain


def _shapes(outputs: Outputs) -> Outputs:
    def shape(tensor: tf.Tensor) -> keras.KerasTensor:
        return keras.KerasTensor(tensor.shape, dtype=tensor.dtype.name)

    return replace(
        outputs,
        predictions=tf.nest.map_structure(shape, outputs.predictions),
        logits=tf.nest.map_structure(shape, outputs.logits),
        unnormalized=tf.nest.map_structure(shape, outputs.unnormalized),
    )


class TensorFlowEngine:
    """See :class:`keras_gradcam.engine.base.Engine`."""

    def build(self, model: Any, signature: Signature) -> None:
        if not model.built:
            zeros = [np.zeros((1, *shape), dtype) for shape, dtype in signature.leaves]
            # Weights are made when the scope ends; whatever else the call assigns is dropped with it.
            with keras.StatelessScope():
                model(tf.nest.pack_sequence_as(signature.structure, zeros), training=False)

    def trace(self, model: Any, signature: Signature, requests: Sequence[Request]) -> TensorFlowProgram:
        return TensorFlowProgram(model, signature, requests)

    def split(self, model: Any, signature: Signature, request: Request) -> TensorFlowSplit:
        return TensorFlowSplit(model, signature, request)

    def layer_calls(self, model: Any, signature: Signature, samples: int | None = None) -> list[Capture]:
        self.build(model, signature)
        found: list[Capture] = []

        def forward(inputs: Sequence[tf.Tensor]) -> tf.Tensor:
            inputs = _float_inputs(model, signature.structure, inputs, explained=0)
            predictions, captures = _forward(model, tf.nest.pack_sequence_as(signature.structure, inputs))
            outputs = _model_outputs(model, predictions)
            found.extend(_marked(captures, tf.nest.flatten(outputs.predictions), outputs, inputs))
            return tf.constant(0)

        _compiled(forward, [_specs(signature, samples)])
        return [
            replace(capture, info=replace(capture.info, output_shape=(None, *capture.info.output_shape[1:])))
            if samples is not None and capture.info.output_shape[:1] == (samples,)
            else capture
            for capture in found
        ]


def _specs(signature: Signature, samples: int | None = None) -> list[tf.TensorSpec]:
    return [tf.TensorSpec((samples, *shape), dtype) for shape, dtype in signature.leaves]


def _compiled(function: Any, specs: Sequence[Any]) -> Any:
    """Traces ``function`` and keeps only what its results are computed from.

    A graph of ``tf.function`` would also run every assignment in the model's forward pass, as training does.
    """
    traced = tf.compat.v1.wrap_function(function, specs)
    results = traced.structured_outputs
    return _pruned(traced, traced.inputs[: len(tf.nest.flatten(specs))], results)


def _pruned(traced: Any, feeds: Sequence[tf.Tensor], results: Any) -> Any:
    """The part of a traced function that leads from some tensors to others."""
    pruned = traced.prune(feeds, results)
    # Called by keywords, TensorFlow first tries another way, which fails, and prints all tensors into the error.
    pruned._arg_keywords = None
    pruned._signature = [tf.TensorSpec(feed.shape, feed.dtype) for feed in feeds]
    return pruned
