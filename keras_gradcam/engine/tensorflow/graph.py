"""Traces a model's forward pass into a TensorFlow graph and finds its way around in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ...errors import ArgumentError
from ..base import InputSpec, LayerCall, LayerOutput, Outputs, Structure
from ..model import declared_inputs, recorded_calls

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


def build(model: Any, input_spec: InputSpec) -> None:
    """Makes the weights of a model that has not been called yet."""
    if not model.built:
        zeros = [np.zeros((1, *shape), dtype) for shape, dtype in input_spec.leaves]
        # Weights are made when the scope ends; whatever else the call assigns is dropped with it.
        with keras.StatelessScope():
            model(tf.nest.pack_sequence_as(input_spec.structure, zeros), training=False)


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


def _forward(model: Any, inputs: Structure) -> tuple[Structure, list[LayerOutput]]:
    """Traces ``model(inputs, training=False)`` into the current graph, with what every layer returned.

    State that a forward pass would change (counters, seeds, moving averages that ignore ``training``) goes into a
    Keras stateless scope and is dropped.
    """
    graph = tf.compat.v1.get_default_graph()
    with recorded_calls(model) as layer_outputs, _functions_inlined(), keras.StatelessScope():
        predictions = model(inputs, training=False)
    # Layers called inside control flow returned tensors of another graph, which cannot be used from here.
    return predictions, [
        layer_output for layer_output in layer_outputs if getattr(layer_output.output, "graph", None) is graph
    ]


def _marked(
    layer_outputs: Sequence[LayerOutput], ends: Sequence[tf.Tensor], outputs: Outputs, inputs: Sequence[tf.Tensor]
) -> list[LayerOutput]:
    """The layer_outputs, marked with what they come from, whether ``ends`` depend on them and whether they are outputs."""
    upstream = _ancestors(ends)
    sources = _sources(inputs)
    final = {id(leaf) for leaf in (*tf.nest.flatten(outputs.predictions), *tf.nest.flatten(outputs.logits))}
    return [
        replace(
            layer_output,
            influences_score=id(layer_output.output) in upstream,
            is_model_output=id(layer_output.output) in final,
            inputs=tuple(sorted(sources.get(id(layer_output.output), ()))),
        )
        for layer_output in layer_outputs
    ]


def _float_inputs(model: Any, structure: Structure, inputs: Sequence[tf.Tensor], explained: int) -> list[tf.Tensor]:
    """The explained input as floating point, unless the model itself takes integers there."""
    inputs = list(inputs)
    declared = declared_inputs(model, structure)
    wanted = declared[explained].dtype if len(declared) == len(inputs) else "float32"
    if not inputs[explained].dtype.is_floating and not keras.backend.is_int_dtype(wanted):
        inputs[explained] = tf.cast(inputs[explained], keras.config.floatx())
    return inputs


def _check_batch(layer: LayerCall | None, maps: int, samples: int) -> None:
    if layer is not None and maps != samples:
        raise ArgumentError(
            "layer",
            "give one map per sample",
            f"{layer.path!r}, which gives {maps} for {samples}: the model lays something else into the batch there",
            "those of list_layers(model)",
        )


def _specs(input_spec: InputSpec, samples: int | None = None) -> list[tf.TensorSpec]:
    return [tf.TensorSpec((samples, *shape), dtype) for shape, dtype in input_spec.leaves]


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
