"""Traces a model's forward pass into a TensorFlow graph and finds its way around in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from ..base import InputSpec, LayerOutput, Outputs, Structure
from ..model import declared_inputs, recorded_calls
from .outputs import model_outputs

_Function: Any = type(tf.function(lambda: None))


@dataclass(frozen=True, eq=False)
class Trace:
    """A forward pass of a model in the current graph.

    Attributes:
        inputs: The model's inputs in flat order, the explained one as floating point.
        outputs: What the model returns.
        layer_outputs: What every layer returned, in the order of the calls.
    """

    inputs: list[tf.Tensor]
    outputs: Outputs
    layer_outputs: list[LayerOutput]

    def marked(self, ends: Sequence[tf.Tensor] | None = None) -> list[LayerOutput]:
        """Returns the layer outputs with what they come from and where they lead to.

        Args:
            ends: What ``influences_score`` is about; the model's outputs by default.
        """
        predictions = [leaf for leaf in tf.nest.flatten(self.outputs.predictions) if leaf is not None]
        logits = [leaf for leaf in tf.nest.flatten(self.outputs.logits) if leaf is not None]
        upstream = ancestors(predictions if ends is None else ends)
        layers, graph = [layer_output.output for layer_output in self.layer_outputs], self.inputs[0].graph
        of_inputs, of_layers = _reached(self.inputs, graph), _reached(layers, graph)
        final = {id(leaf) for leaf in (*predictions, *logits)}
        inner = _inner_outputs(predictions, logits) if len(predictions) > 1 else set()
        return [
            replace(
                layer_output,
                influences_score=id(layer_output.output) in upstream,
                is_model_output=id(layer_output.output) in final - inner,
                inputs=tuple(_positions(of_inputs[id(layer_output.output)])),
                computed_from=frozenset(
                    position
                    for position in _positions(of_layers[id(layer_output.output)])
                    if layers[position] is not layer_output.output
                ),
            )
            for layer_output in self.layer_outputs
        ]


def trace_forward(model: Any, input_spec: InputSpec, inputs: Sequence[tf.Tensor], explained: int = 0) -> Trace:
    """Traces ``model(inputs, training=False)`` into the current graph, with what every layer returned.

    State that a forward pass would change (counters, seeds, moving averages that ignore ``training``) goes into a
    Keras stateless scope and is dropped.

    Args:
        model: The model.
        input_spec: The structure of its inputs.
        inputs: Tensors of the current graph, in flat order.
        explained: Index of the explained input.
    """
    graph = tf.compat.v1.get_default_graph()
    inputs = _explained_as_float(model, input_spec.structure, inputs, explained)
    with recorded_calls(model) as layer_outputs, _functions_inlined(), keras.StatelessScope():
        predictions = model(tf.nest.pack_sequence_as(input_spec.structure, inputs), training=False)
    # Layers called inside control flow returned tensors of another graph, which cannot be used from here.
    usable = [output for output in layer_outputs if getattr(output.output, "graph", None) is graph]
    return Trace(inputs, model_outputs(model, predictions), usable)


def _explained_as_float(
    model: Any, structure: Structure, inputs: Sequence[tf.Tensor], explained: int
) -> list[tf.Tensor]:
    """Converts the explained input to floating point, unless the model itself takes integers there."""
    inputs = list(inputs)
    declared = declared_inputs(model, structure)
    wanted = declared[explained].dtype if len(declared) == len(inputs) else "float32"
    if not inputs[explained].dtype.is_floating and not keras.backend.is_int_dtype(wanted):
        inputs[explained] = tf.cast(inputs[explained], keras.config.floatx())
    return inputs


@contextmanager
def _functions_inlined() -> Iterator[None]:
    """Traces a ``tf.function`` that this thread calls in this context into the current graph, not one of its own.

    TensorFlow's own switch, ``run_functions_eagerly``, is for all threads and skips AutoGraph. A function that is
    compiled by XLA stays whole: Keras has those for operations that run in no other way, such as grouped convolutions
    on a CPU. It is differentiated as a unit, and the guided rule does not reach into it.
    """
    owner, original = threading.get_ident(), _Function.__call__
    context = tf.__internal__.autograph.control_status_ctx()
    converting = type(context)(status=type(context.status).ENABLED)

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        compiled = getattr(function, "_jit_compile", False)
        if threading.get_ident() != owner or compiled or tf.config.functions_run_eagerly():
            return original(function, *args, **kwargs)
        if not getattr(function, "_autograph", True):
            return function.python_function(*args, **kwargs)
        return tf.__internal__.autograph.tf_convert(function.python_function, converting)(*args, **kwargs)

    _Function.__call__ = call
    try:
        yield
    finally:
        _Function.__call__ = original


def ancestors(tensors: Sequence[tf.Tensor], without: tf.Tensor = None) -> set[int]:
    """Returns the ids of all tensors that ``tensors`` are computed from, themselves included.

    Args:
        tensors: Where to start.
        without: A tensor to stop at: what is reached through it alone is left out.
    """
    seen: set[int] = set() if without is None else {id(without)}
    pending = list(tensors)
    while pending:
        tensor = pending.pop()
        if id(tensor) not in seen:
            seen.add(id(tensor))
            pending.extend(tensor.op.inputs)
    return seen


def _reached(tensors: Sequence[tf.Tensor], graph: tf.Graph) -> dict[int, int]:
    """Returns, for the id of each tensor of a graph, which of some tensors it is or is computed from.

    Args:
        tensors: Some tensors of the graph.
        graph: The graph.

    Returns:
        Whole numbers with a bit for the position of each of ``tensors``, which :func:`_positions` lists.
    """
    own: dict[int, int] = {}
    for position, tensor in enumerate(tensors):
        own[id(tensor)] = own.get(id(tensor), 0) | 1 << position
    reached = dict(own)
    for operation in graph.get_operations():
        bits = 0
        for tensor in operation.inputs:
            bits |= reached.get(id(tensor), 0)
        for tensor in operation.outputs:
            reached[id(tensor)] = bits | own.get(id(tensor), 0)
    return reached


def _positions(bits: int) -> list[int]:
    """Returns the positions of the bits that are set in a whole number, the lowest first."""
    return [position for position in range(bits.bit_length()) if bits >> position & 1]


def _inner_outputs(predictions: Sequence[tf.Tensor], logits: Sequence[tf.Tensor]) -> set[int]:
    """Returns the ids of the outputs that another output is computed from, such as a feature map that is returned."""
    inner: set[int] = set()
    for own, scores in zip(predictions, logits, strict=True):
        others = [leaf for leaf in predictions if leaf is not own and leaf is not scores]
        inner |= {id(own), id(scores)} & (ancestors(others) - {id(leaf) for leaf in others})
    return inner


def input_specs(input_spec: InputSpec, samples: int | None = None) -> list[tf.TensorSpec]:
    """Returns TensorFlow's description of the inputs; the batch size is free unless ``samples`` fixes it."""
    return [tf.TensorSpec((samples, *shape), dtype) for shape, dtype in input_spec.leaves]


def compile_function(function: Any, specs: Sequence[Any]) -> Any:
    """Traces ``function`` and keeps only what its results are computed from.

    A graph of ``tf.function`` would also run every assignment in the model's forward pass, as training does.
    """
    traced = tf.compat.v1.wrap_function(function, specs)
    results = traced.structured_outputs
    return prune(traced, traced.inputs[: len(tf.nest.flatten(specs))], results)


def prune(traced: Any, feeds: Sequence[tf.Tensor], results: Any) -> Any:
    """Cuts out the part of a traced function that leads from some tensors to others."""
    pruned = traced.prune(feeds, results)
    # Called by keywords, TensorFlow first tries another way, which fails, and prints all tensors into the error.
    pruned._arg_keywords = None
    pruned._signature = [tf.TensorSpec(feed.shape, feed.dtype) for feed in feeds]
    return pruned
