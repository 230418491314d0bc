"""Traces a model's forward pass with JAX and translates it to a graph that can be analysed and run again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.extend.core as jex
import keras
import numpy as np

from ...errors import ArgumentError
from ..base import InputSpec, LayerOutput, Outputs, Request, Structure
from ..graphs.activations import activations
from ..graphs.graph import CONSTANT, WEIGHT, Graph, Operation, Value, marked
from ..graphs.outputs import FoundOutputs, Rebuilt, find_outputs, rebuilt_tensor, value_of
from ..model import recorded_calls
from ..passes import check_free_batch, scores_of, takes_floats
from .primitives import is_one_operation, translated

# Calls whose body is a part of the forward pass like any other.
_BODIES = ("jaxpr", "call_jaxpr", "fun_jaxpr")

# Calls with a derivative of their own, which is kept.
_WITH_OWN_DERIVATIVE = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")

# Loops and branches, into which neither the analyses nor the guided rule look.
_CONTROL_FLOW = ("scan", "while", "cond")


@dataclass(eq=False)
class Step:
    """One step of running a forward pass again.

    Attributes:
        apply: Runs it on tensors in place of the inputs.
        inputs: What it takes.
        outputs: What it returns.
        inside: Where it has a derivative of its own, the steps that it is made of.
    """

    apply: Callable[[Sequence[Any]], list[Any]]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    inside: tuple[Step, ...] = ()


@dataclass(eq=False)
class Trace:
    """A forward pass of a model.

    Attributes:
        variables: The variables that it reads.
        weights: Their values in the graph, in the same order.
        graph: What is computed of inputs and weights.
        steps: How to run it again.
        explained: The explained input in floating point: the input itself, or what it is cast to.
        predictions: What the model returns, in its structure.
        layer_outputs: What every layer returned, in the order of the calls.
        found: Scores and embeddings before the outputs.
        unreached: Number of rectifiers inside loops and branches.
    """

    variables: list[Any]
    weights: list[Value]
    graph: Graph
    steps: list[Step]
    explained: Value
    predictions: Structure
    layer_outputs: list[LayerOutput]
    found: FoundOutputs
    unreached: int

    def marked(self, ends: Sequence[Value] | None = None) -> list[LayerOutput]:
        """Returns the layer outputs with what they come from and where they lead to; ``ends`` as in ``marked``."""
        outputs = self.output_values()
        predictions, logits = (
            [leaf for leaf in keras.tree.flatten(structure) if leaf is not None]
            for structure in (outputs.predictions, outputs.logits)
        )
        return marked(self.graph, self.layer_outputs, predictions, logits, ends)

    def _packed(self, leaves: Sequence[Any]) -> Structure:
        return keras.tree.pack_sequence_as(self.predictions, list(leaves))

    def outputs(self, tensor_of: Callable[[Value], Any]) -> Outputs:
        """Returns the outputs as a target takes them, in tensors."""

        def tensors(values: Sequence[Rebuilt | None]) -> Structure:
            return self._packed([None if value is None else rebuilt_tensor(value, tensor_of) for value in values])

        return Outputs(
            tensors(keras.tree.flatten(self.predictions)),
            tensors(self.found.logits),
            self._packed(self.found.final_activations),
            tensors(self.found.pre_normalization),
            self.found.names,
        )

    def output_shapes(self) -> Outputs:
        """Returns the outputs with shapes and dtypes in place of tensors."""
        leaves = self._leaves()
        parts = ("predictions", "logits", "pre_normalization")
        structures: dict[str, Structure] = {}

        def flat(tensors: list[Any]) -> list[list[Any]]:
            known = dict(zip(map(id, leaves), tensors, strict=True))
            outputs = self.outputs(lambda value: known[id(value)])
            structures.update((name, getattr(outputs, name)) for name in parts)
            return [keras.tree.flatten(structures[name]) for name in parts]

        shapes = dict(zip(parts, jax.eval_shape(flat, [_struct(value) for value in leaves]), strict=True))
        packed = {name: keras.tree.pack_sequence_as(structures[name], shapes[name]) for name in parts}
        return Outputs(**packed, final_activations=self._packed(self.found.final_activations), names=self.found.names)

    def score_of(self, request: Request) -> Value:
        """Returns the scores of a request's target as a value that is computed from those of the graph."""
        leaves, (samples, *_) = self._leaves(), self.graph.inputs[0].shape
        given = [
            jax.ShapeDtypeStruct((samples, *array.shape[1:]), jax.dtypes.canonicalize_dtype(array.dtype))
            for array in request.arguments
        ]

        def scores(tensors: list[Any], arguments: list[Any]) -> Any:
            known = dict(zip(map(id, leaves), tensors, strict=True))
            return scores_of(request.target, self.outputs(lambda value: known[id(value)]), arguments, samples)

        closed = jax.make_jaxpr(scores)([_struct(value) for value in leaves], given)
        arguments = [Value(tuple(spec.shape), str(spec.dtype), WEIGHT) for spec in given]
        (score,) = Translation().body(closed.jaxpr, closed.consts, [*leaves, *arguments], [])
        return score

    def _leaves(self) -> list[Value]:
        """Returns the values that outputs are made of, each once."""
        found = self.found
        rebuilt = [*keras.tree.flatten(self.predictions), *found.logits, *found.pre_normalization]
        return list({id(value): value for leaf in rebuilt if leaf is not None for value in _values_in(leaf)}.values())

    def output_values(self) -> Outputs:
        """Returns the outputs as values of the graph; scores that are moved after they were found, before that."""
        found = self.found
        logits = [None if rebuilt is None else value_of(rebuilt) for rebuilt in found.logits]
        packed = self._packed
        return Outputs(
            self.predictions,
            packed(logits),
            packed(found.final_activations),
            packed(found.pre_normalization),
            found.names,
        )


def _values_in(rebuilt: Rebuilt) -> list[Value]:
    """Returns the values that scores are made of."""
    if isinstance(rebuilt, Value):
        return [rebuilt]
    return [value for source in rebuilt.inputs for value in _values_in(source)]


class _Scope(keras.StatelessScope):
    """A stateless scope that notes the variables that are read and not among those that it was given."""

    def __init__(self, mapping: Sequence[tuple[Any, Any]], missed: list[Any]) -> None:
        super().__init__(state_mapping=list(mapping))
        self._missed = missed

    def get_current_value(self, variable: Any) -> Any:
        value = super().get_current_value(variable)
        if value is None and all(variable is not other for other in self._missed):
            self._missed.append(variable)
        return value


def trace_forward(model: Any, input_spec: InputSpec, samples: int, explained: int = 0) -> Trace:
    """Traces ``model(inputs, training=False)`` for a number of samples, with what every layer returned.

    Nothing is computed. State that a forward pass would change goes into a Keras stateless scope and is dropped.

    Args:
        model: The model.
        input_spec: Shapes and dtypes of its inputs.
        samples: The batch size.
        explained: Index of the explained input.
    """
    check_free_batch(model, input_spec)
    variables = list(model.variables)
    while True:
        missed: list[Any] = []
        traced = _traced(model, input_spec, samples, explained, variables, missed)
        if not missed:
            return traced
        # Variables that the model does not know of, such as those in a list that Keras does not track.
        variables = [*variables, *missed]


def _traced(
    model: Any, input_spec: InputSpec, samples: int, explained: int, variables: list[Any], missed: list[Any]
) -> Trace:
    """Traces a forward pass in which ``variables`` can change; appends other variables that it reads to ``missed``."""
    calls: list[LayerOutput] = []
    structure: list[Structure] = []

    def forward(inputs: list[Any], weights: list[Any]) -> tuple[Any, ...]:
        own = inputs[0]._trace
        inputs = list(inputs)
        if not jax.numpy.issubdtype(inputs[explained].dtype, jax.numpy.floating) and takes_floats(
            model, input_spec, explained
        ):
            inputs[explained] = inputs[explained].astype(keras.config.floatx())
        scope = _Scope(list(zip(variables, weights, strict=True)), missed)
        with recorded_calls(model) as layer_outputs, scope:
            predictions = model(keras.tree.pack_sequence_as(input_spec.structure, inputs), training=False)
        # Layers called inside a loop or a branch returned tensors that cannot be used from here.
        calls.extend(output for output in layer_outputs if getattr(output.output, "_trace", own) is own)
        structure.append(predictions)
        leaves = [leaf for leaf in keras.tree.flatten(predictions) if leaf is not None]
        return inputs[explained], [output.output for output in calls], leaves

    specs = [jax.ShapeDtypeStruct((samples, *shape), np.dtype(dtype)) for shape, dtype in input_spec.leaves]
    # Their shapes alone: where they lie comes with each call.
    states = [jax.ShapeDtypeStruct(tuple(variable.shape), variable.value.dtype) for variable in variables]
    closed = jax.make_jaxpr(forward)(specs, states)
    translation = Translation()
    inputs = [Value(tuple(spec.shape), str(spec.dtype)) for spec in specs]
    weights = [Value(tuple(state.shape), str(state.dtype), WEIGHT) for state in states]
    results = translation.body(closed.jaxpr, closed.consts, [*inputs, *weights], translation.steps)
    first, layers, leaves = results[0], results[1 : 1 + len(calls)], iter(results[1 + len(calls) :])
    graph = Graph(inputs, translation.operations)
    flat = [None if leaf is None else next(leaves) for leaf in keras.tree.flatten(structure[0])]
    return Trace(
        variables,
        weights,
        graph,
        translation.steps,
        first,
        keras.tree.pack_sequence_as(structure[0], flat),
        [replace(call, output=value) for call, value in zip(calls, layers, strict=True)],
        find_outputs(model, flat),
        translation.unreached,
    )


@dataclass(eq=False)
class Translation:
    """The operations of a jaxpr and of all that it calls, as far as they are translated.

    Attributes:
        operations: For analyses, with what is inside calls.
        steps: For running it again.
        unreached: Number of rectifiers inside loops and branches.
    """

    operations: list[Operation] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    unreached: int = 0

    def body(self, jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Value], steps: list[Step]) -> list[Value]:
        """Translates a jaxpr that is called with arguments; appends to ``steps`` and returns its results."""
        values: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        values.update((variable, _constant(array)) for variable, array in zip(jaxpr.constvars, constants, strict=True))

        def value(atom: Any) -> Value:
            return _constant(atom.val) if isinstance(atom, jex.Literal) else values[atom]

        for equation in jaxpr.eqns:
            results = self._equation(equation, tuple(map(value, equation.invars)), steps)
            values.update(zip(equation.outvars, results, strict=True))
        return [value(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, inputs: tuple[Value, ...], steps: list[Step]) -> Sequence[Value]:
        """Translates one equation of a jaxpr; returns its results."""
        name, params = equation.primitive.name, equation.params
        if not equation.outvars:  # it prints, or calls back
            return ()
        inner = next((params[key] for key in _BODIES if key in params), None)
        if name in _CONTROL_FLOW:
            self.unreached += _count_rectifiers(params)
        elif inner is not None and not is_one_operation(equation):
            jaxpr, constants = (inner.jaxpr, inner.consts) if isinstance(inner, jex.ClosedJaxpr) else (inner, ())
            if name not in _WITH_OWN_DERIVATIVE:
                return self.body(jaxpr, constants, inputs, steps)
            inside: list[Step] = []
            results = self.body(jaxpr, constants, inputs, inside)
            steps.append(Step(_bound(equation), inputs, tuple(results), tuple(inside)))
            return results
        operation = translated(equation, inputs, _bound(equation))
        self.operations.append(operation)
        steps.append(Step(_bound(equation), inputs, operation.outputs))
        return operation.outputs


def _bound(equation: Any) -> Callable[[Sequence[Any]], list[Any]]:
    """Returns the function that applies an equation to tensors."""

    def apply(tensors: Sequence[Any]) -> list[Any]:
        bound = equation.primitive.get_bind_params(equation.params)
        # Before JAX 0.10, the functions that it calls came beside the parameters.
        functions, params = bound if isinstance(bound, tuple) else ((), bound)
        results = equation.primitive.bind(*functions, *tensors, **params)
        return list(results) if equation.primitive.multiple_results else [results]

    return apply


def _constant(array: Any) -> Value:
    return Value(tuple(np.shape(array)), str(jax.numpy.result_type(array)), CONSTANT, lambda: np.asarray(array))


def _count_rectifiers(params: Mapping[str, Any]) -> int:
    """Counts the rectifiers in the bodies of a loop or a branch."""
    count = 0
    for inner in jex.jaxprs_in_params(dict(params)):
        translation, variables = Translation(), (*inner.constvars, *inner.invars)
        arguments = [Value(tuple(variable.aval.shape), str(variable.aval.dtype)) for variable in variables]
        translation.body(inner.replace(constvars=(), invars=list(variables)), (), arguments, [])
        found = activations(Graph(arguments, translation.operations))
        count += translation.unreached + sum(activation.kind == "rectifier" for activation in found)
    return count


def current_weights(variables: Sequence[Any]) -> list[Any]:
    """Returns the current values of variables on one device, the first of this process if they are on several.

    Of several processes only one explains: a computation on all devices would wait for the others.
    """
    return [_on_one_device(variable.value) for variable in variables]


def _on_one_device(value: jax.Array) -> jax.Array:
    if len(value.sharding.device_set) == 1:
        return value
    if value.is_fully_replicated:
        return value.addressable_data(0)
    if not value.is_fully_addressable:
        raise ArgumentError("model", "have its weights in one process", "one whose weights are split among several")
    return jax.device_put(value, value.addressable_shards[0].device)


def run_again(
    steps: Sequence[Step],
    tensors: dict[int, Any],
    gates: Mapping[int, Callable[[Any], Any]],
    added: Mapping[int, Any],
) -> None:
    """Runs steps of a forward pass and notes their results.

    Args:
        steps: The steps.
        tensors: The tensor of each value that is known, by the value's id; those of the results are added.
        gates: By the id of a value, a function that is applied to it.
        added: By the id of a value, what is added to it.
    """

    def note(value: Value, tensor: Any) -> None:
        if id(value) in gates:
            tensor = gates[id(value)](tensor)
        tensors[id(value)] = tensor + added[id(value)] if id(value) in added else tensor

    for step in steps:
        interior = {id(value) for inner in step.inside for value in inner.outputs} - {id(v) for v in step.outputs}
        if interior & (gates.keys() | added.keys()):
            run_again(step.inside, tensors, gates, added)
            continue
        results = step.apply([tensor_of(value, tensors) for value in step.inputs])
        for value, tensor in zip(step.outputs, results, strict=True):
            # A call may return what it was given, which is noted already.
            if id(value) not in tensors:
                note(value, tensor)


def tensor_of(value: Value, tensors: Mapping[int, Any]) -> Any:
    """Returns the tensor of a value, which is known or a constant."""
    if id(value) in tensors:
        return tensors[id(value)]
    assert value.content is not None
    return jax.numpy.asarray(value.content())


def needed_steps(steps: Sequence[Step], end: Value, start: Value) -> list[Step]:
    """Returns the steps, in order, that compute a value once another one is known."""
    wanted, needed = {id(end)} - {id(start)}, []
    for step in reversed(steps):
        if wanted.intersection(map(id, step.outputs)):
            needed.append(step)
            wanted.update(id(value) for value in step.inputs if value is not start)
    return needed[::-1]


def _struct(value: Value) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(value.shape, np.dtype(value.dtype))
