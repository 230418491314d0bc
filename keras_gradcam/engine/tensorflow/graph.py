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
from ..graphs.graph import Value, marked
from ..graphs.outputs import Rebuilt, find_outputs, rebuilt_tensor
from ..graphs.placement import PlaceReader, layout_of
from ..model import recorded_calls
from ..passes import takes_floats
from ..places import Layout
from .translation import Translation

_Function: Any = type(tf.function(lambda: None))


@dataclass(frozen=True, eq=False)
class Trace:
    """A forward pass of a model in the current graph.

    Attributes:
        inputs: The model's inputs in flat order, the explained one as floating point.
        outputs: What the model returns.
        layer_outputs: What every layer returned, in the order of the calls.
        translation: What the tensors mean.
    """

    inputs: list[tf.Tensor]
    outputs: Outputs
    layer_outputs: list[LayerOutput]
    translation: Translation

    def reader(self, explained: int) -> PlaceReader:
        """Returns the reader of where elements lie on an input."""
        tensor = self.inputs[explained]
        return PlaceReader.of_input(self.translation.value(tensor), tensor.shape[1:])

    def layout(self, layer_output: LayerOutput, reader: PlaceReader, explained: int) -> Layout:
        """Returns how the map of a layer lies in its output and on an input."""
        others = [self._translated(output) for output in self.layer_outputs]
        return layout_of(self._translated(layer_output), reader, tuple(self.inputs[explained].shape[1:]), others)

    def _translated(self, layer_output: LayerOutput) -> LayerOutput:
        return replace(layer_output, output=self.translation.value(layer_output.output))

    def marked(self, ends: Sequence[tf.Tensor] | None = None) -> list[LayerOutput]:
        """Returns the layer outputs with what they come from and where they lead to; ``ends`` as in ``marked``."""

        def values(tensors: Sequence[tf.Tensor | None]) -> list[Value]:
            return [self.translation.value(tensor) for tensor in tensors if tensor is not None]

        found = marked(
            self.translation.graph(self.inputs),
            [self._translated(output) for output in self.layer_outputs],
            values(tf.nest.flatten(self.outputs.predictions)),
            values(tf.nest.flatten(self.outputs.logits)),
            None if ends is None else values(ends),
        )
        return [replace(output, output=self.translation.tensor(output.output)) for output in found]


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
    translation, inputs = Translation(graph, inputs), list(inputs)
    if not inputs[explained].dtype.is_floating and takes_floats(model, input_spec, explained):
        inputs[explained] = tf.cast(inputs[explained], keras.config.floatx())
    with recorded_calls(model) as layer_outputs, _functions_inlined(), keras.StatelessScope():
        predictions = model(tf.nest.pack_sequence_as(input_spec.structure, inputs), training=False)
    # Layers called inside control flow returned tensors of another graph, which cannot be used from here.
    usable = [output for output in layer_outputs if getattr(output.output, "graph", None) is graph]
    return Trace(inputs, _outputs(model, predictions, translation), usable, translation)


def _outputs(model: Any, predictions: Structure, translation: Translation) -> Outputs:
    """Returns a model's outputs with the logits, final activations and embeddings that are found in its graph."""
    flat = [None if leaf is None else tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(predictions)]
    found = find_outputs(model, [None if leaf is None else translation.value(leaf) for leaf in flat])

    def pack(leaves: Sequence[Any]) -> Structure:
        return tf.nest.pack_sequence_as(predictions, list(leaves))

    def tensors(rebuilt: Sequence[Rebuilt | None]) -> Structure:
        return pack([None if one is None else rebuilt_tensor(one, translation.tensor) for one in rebuilt])

    return Outputs(
        pack(flat), tensors(found.logits), pack(found.final_activations), tensors(found.pre_normalization), found.names
    )


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


def input_specs(input_spec: InputSpec, samples: int | None = None) -> list[tf.TensorSpec]:
    """Returns TensorFlow's description of the inputs; the batch size is free unless ``samples`` fixes it."""
    return [tf.TensorSpec((samples, *shape), dtype) for shape, dtype in input_spec.leaves]


def prune(traced: Any, feeds: Sequence[tf.Tensor], results: Any) -> Any:
    """Cuts out the part of a traced function that leads from some tensors to others.

    A graph of ``tf.function`` would also run every assignment in the model's forward pass, as training does.
    """
    pruned = traced.prune(feeds, results)
    # Called by keywords, TensorFlow first tries another way, which fails, and prints all tensors into the error.
    pruned._arg_keywords = None
    pruned._signature = [tf.TensorSpec(feed.shape, feed.dtype) for feed in feeds]
    return pruned
