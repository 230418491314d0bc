"""What stands before final activations and normalisations is found in the ways in which JAX and PyTorch write them."""

from __future__ import annotations

import types

import keras
import numpy as np
import pytest
from graph_builder import GraphBuilder

from keras_gradcam.engine.graphs.graph import ALONG, CONTRACTION, MOVE, OPAQUE, REDUCE, RESHAPE
from keras_gradcam.engine.graphs.outputs import Repeated, find_outputs, rebuilt_tensor, value_of


class Network(GraphBuilder):
    """A graph with scores ``z``, the result of an operation that nothing is known of.

    Attributes:
        x: Its input.
        z: Its scores, or embedding.
    """

    def __init__(self, shape=(2, 4)):
        super().__init__()
        self.x = self.input(shape)
        self.z = self.dense()

    def dense(self):
        """Adds scores."""
        return self.add("dot", OPAQUE, self.x, self.weight((4, 4)), run=lambda x, w: x)

    def plus(self, *inputs):
        """Adds a sum of two tensors."""
        return self.elementwise("add", *inputs)

    def __getattr__(self, function):
        return lambda *inputs: self.elementwise(function, *inputs)

    def move(self, run, *inputs, moved=(0,)):
        """Adds an operation that moves elements."""
        return self.add("move", MOVE, *inputs, run=run, moved=moved)

    def reshape(self, x, *shape):
        """Adds an operation that leaves the elements in their order."""
        return self.add("reshape", RESHAPE, x, run=lambda a: a.reshape(shape))

    def reduced(self, function, x, axis=-1, keepdims=True):
        """Adds a sum, a maximum, ... along an axis."""
        axes = (axis % len(x.shape),)
        run = lambda a: getattr(np, function)(a, axis=axis, keepdims=keepdims)  # noqa: E731
        return self.add(function, REDUCE, x, run=run, axes=axes, keepdims=keepdims)

    def softmax(self, x):
        """Adds a softmax as PyTorch has it."""
        return self.add("softmax", ALONG, x, axes=(1,))

    def shifted(self, x):
        """Adds the scores less their maximum, as JAX writes it."""
        largest = self.maximum(-np.inf, self.reduced("max", x, keepdims=False))
        return self.subtract(x, self.stop_gradient(self.move(lambda a: a[:, None], largest)))

    def jax_softmax(self, x):
        """Adds a softmax as JAX writes it."""
        powers = self.exp(self.shifted(x))
        total = self.move(lambda a: np.repeat(a[:, None], 4, 1), self.reduced("sum", powers, keepdims=False))
        return self.divide(powers, total)

    def jax_log_softmax(self, x):
        """Adds the logarithm of a softmax as JAX writes it."""
        shifted = self.shifted(x)
        total = self.move(lambda a: a[:, None], self.reduced("sum", self.exp(shifted), keepdims=False))
        return self.subtract(shifted, self.log(total))


def found(network, *outputs, model=None):
    return find_outputs(model or types.SimpleNamespace(), outputs)


ENDINGS = {
    "softmax": ("softmax", lambda b: b.softmax(b.z)),
    "sigmoid": ("sigmoid", lambda b: b.sigmoid(b.z)),
    "log_softmax": ("log_softmax", lambda b: b.add("log_softmax", ALONG, b.z, axes=(1,))),
    "softmax of JAX": ("softmax", lambda b: b.jax_softmax(b.z)),
    "log_softmax of JAX": ("log_softmax", lambda b: b.jax_log_softmax(b.z)),
    "softmax by hand": ("softmax", lambda b: b.divide(b.exp(b.z), b.reduced("sum", b.exp(b.z)))),
    "log_softmax by hand": ("log_softmax", lambda b: b.subtract(b.z, b.log(b.reduced("sum", b.exp(b.z))))),
    "cast": ("softmax", lambda b: b.cast(b.softmax(b.z))),
    "cast twice, of JAX": ("softmax", lambda b: b.identity(b.cast(b.jax_softmax(b.z)))),
    "clipped": ("softmax", lambda b: b.clip(b.softmax(b.z), 1e-7, 1 - 1e-7)),
    "clipped below": ("sigmoid", lambda b: b.maximum(1e-7, b.sigmoid(b.z))),
}


@pytest.mark.parametrize(("name", "ending"), ENDINGS.values(), ids=ENDINGS)
def test_scores_before_a_final_activation(name, ending):
    network = Network()
    output = ending(network)
    answer = found(network, output)
    assert (answer.final_activations, answer.logits) == ([name], [network.z])
    assert answer.pre_normalization == [output]


NO_ENDINGS = {
    "none": lambda b: b.z,
    "exponential": lambda b: b.exp(b.z),
    "quotient of something else": lambda b: b.divide(b.exp(b.z), b.reduced("max", b.exp(b.z))),
    "quotient by other scores": lambda b: b.divide(b.exp(b.z), b.reduced("sum", b.exp(b.dense()))),
    "gate": lambda b: b.multiply(b.z, b.jax_softmax(b.z)),
    "smaller of two": lambda b: b.minimum(b.z, b.sigmoid(b.z)),
}


@pytest.mark.parametrize("ending", NO_ENDINGS)
def test_what_ends_in_no_activation_is_its_own_scores(ending):
    network = Network()
    output = NO_ENDINGS[ending](network)
    answer = found(network, output)
    assert (answer.logits, answer.final_activations) == ([output], [""])


BEHIND = {
    "sliced": lambda b, p: b.move(lambda a: a[:, 1:], p),
    "reversed": lambda b, p: b.move(lambda a: a[:, ::-1], p),
    "reshaped": lambda b, p: b.reshape(p, 2, 2, 2),
    "moved and cast and reshaped": lambda b, p: b.reshape(b.cast(b.move(lambda a: a[:, ::-1], p)), 2, 1, 4),
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("ending", ["softmax", "jax_softmax", "sigmoid"])
def test_what_moves_probabilities_is_done_to_the_scores(ending, behind):
    network = Network()
    output = BEHIND[behind](network, getattr(network, ending)(network.z))
    answer = found(network, output)
    assert answer.final_activations == [ending.removeprefix("jax_")]
    (logits,) = answer.logits
    assert isinstance(logits, Repeated)
    assert value_of(logits) is network.z
    numbers = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    tensor_of = network.computed({network.x: numbers})
    tensor = rebuilt_tensor(logits, tensor_of)
    assert tensor.shape == output.shape
    direct = BEHIND[behind](network, network.z)
    np.testing.assert_array_equal(tensor, network.computed({network.x: numbers})(direct))


def test_sigmoids_side_by_side_have_their_scores_side_by_side():
    network = Network()
    heads = [network.dense() for _ in range(3)]
    joined = network.move(
        lambda *a: np.concatenate(a, axis=1), *(network.sigmoid(head) for head in heads), moved=(0, 1, 2)
    )
    answer = found(network, joined)
    assert answer.final_activations == ["sigmoid"]
    (logits,) = answer.logits
    assert logits.inputs == tuple(heads)
    assert value_of(logits) is heads[0]
    parts = {id(head): np.full((2, 4), position) for position, head in enumerate(heads)}
    tensor = rebuilt_tensor(logits, lambda value: parts[id(value)])
    np.testing.assert_array_equal(tensor, np.concatenate(list(parts.values()), axis=1))


def test_softmaxes_side_by_side_are_probabilities():
    network = Network()
    parts = [network.jax_softmax(network.dense()), network.softmax(network.dense())]
    joined = network.move(lambda *a: np.concatenate(a, axis=1), *parts, moved=(0, 1))
    answer = found(network, joined)
    assert (answer.final_activations, answer.logits) == (["probabilities"], [joined])


def test_a_result_of_several_is_picked_from_the_scores_too():
    network = Network()
    halves = network.move(lambda a: [a[:, :2], a[:, 2:]], network.sigmoid(network.z))
    (logits,) = found(network, halves[1]).logits
    scores = np.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(rebuilt_tensor(logits, lambda value: scores), scores[:, 2:])


TOGETHER = {
    "average": lambda b, p, q: b.divide(b.plus(p, q), 2.0),
    "average of a stack": lambda b, p, q: b.reduced(
        "mean", b.move(lambda *a: np.stack(a, -1), p, q, moved=(0, 1)), keepdims=False
    ),
    "average of a stack by a sum": lambda b, p, q: b.divide(
        b.reduced("sum", b.move(lambda *a: np.stack(a, -1), p, q, moved=(0, 1)), keepdims=False), 2.0
    ),
    "weighted": lambda b, p, q: b.plus(b.multiply(0.25, p), b.multiply(0.75, q)),
    "product": lambda b, p, q: b.multiply(p, q),
    "smaller": lambda b, p, q: b.minimum(p, q),
    "or": lambda b, p, q: b.subtract(1.0, b.multiply(b.subtract(1.0, p), b.subtract(1.0, q))),
    "or, by minus": lambda b, p, q: b.plus(1.0, b.negative(b.multiply(b.subtract(1.0, p), b.subtract(1.0, q)))),
    "chosen": lambda b, p, q: b.where(b.greater(p, q), p, 0.5),
    "clipped": lambda b, p, q: b.clip(b.plus(p, q), 0.0, 1.0),
    "squared": lambda b, p, q: b.minimum(b.power(b.subtract(p, q), 2.0), 1.0),
    "hard sigmoid": lambda b, p, q: b.hard_sigmoid(b.z),
    "hard sigmoid by relu6": lambda b, p, q: b.divide(b.relu6(b.plus(b.z, 3.0)), 6.0),
}


@pytest.mark.parametrize("together", TOGETHER)
@pytest.mark.parametrize("ending", ["softmax", "jax_softmax", "sigmoid"])
def test_what_is_made_of_probabilities_is_known_to_be_some(together, ending):
    network = Network()
    p, q = (getattr(network, ending)(network.dense()) for _ in range(2))
    output = TOGETHER[together](network, p, q)
    answer = found(network, output)
    assert (answer.final_activations, answer.logits) == (["probabilities"], [output])


BEYOND = {
    "sum": lambda b, p, q: b.plus(p, q),
    "difference": lambda b, p, q: b.subtract(p, q),
    "quotient": lambda b, p, q: b.divide(p, q),
    "scaled by a weight": lambda b, p, q: b.multiply(p, b.weight()),
    "sum along an axis": lambda b, p, q: b.reduced("sum", p),
    "of something else": lambda b, p, q: b.maximum(p, b.z),
    "logarithms": lambda b, p, q: b.plus(b.log(p), b.log(q)),
}


@pytest.mark.parametrize("beyond", BEYOND)
def test_what_may_exceed_one_is_no_probability(beyond):
    network = Network()
    p, q = (network.sigmoid(network.dense()) for _ in range(2))
    assert found(network, BEYOND[beyond](network, p, q)).final_activations == [""]


# -------------------------------------------------------------------------------------------------------- normalisation


def squares(b, x, **options):
    return b.reduced("sum", b.square(x), **options)


def norm(b, x, **options):
    return b.sqrt(squares(b, x, **options))


def wide(b, x):
    """As PyTorch and JAX write it where shapes must be equal."""
    return b.move(lambda a: np.broadcast_to(a.reshape(2, 1), (2, 4)), x)


def vector_norm(b, x):
    return b.add(
        "norm", REDUCE, x, run=lambda a: np.linalg.norm(a, axis=1, keepdims=True), axes=(1,), keepdims=True, order=2
    )


NORMALIZED = {
    "keras.ops.normalize": lambda b, x: b.multiply(x, b.minimum(b.rsqrt(squares(b, x)), 1e7)),
    "the same of JAX": lambda b, x: b.multiply(
        x, b.minimum(b.rsqrt(b.move(lambda a: a[:, None], squares(b, x, keepdims=False))), 1e12)
    ),
    "the same of PyTorch": lambda b, x: b.multiply(
        x, b.minimum(b.rsqrt(b.reduced("sum", b.power(x, 2.0))), b.constant(1e7))
    ),
    "the other way round": lambda b, x: b.multiply(wide(b, b.rsqrt(squares(b, x))), x),
    "norm of JAX": lambda b, x: b.divide(x, b.sqrt(b.reduced("sum", b.multiply(x, x)))),
    "norm of PyTorch": lambda b, x: b.divide(x, vector_norm(b, x)),
    "normalize of PyTorch": lambda b, x: b.divide(x, wide(b, b.maximum(vector_norm(b, x), 1e-12))),
    "clipped norm": lambda b, x: b.divide(x, wide(b, b.clip(vector_norm(b, x), 1e-12, np.inf))),
    "epsilon below the root": lambda b, x: b.divide(x, b.sqrt(b.plus(squares(b, x), 1e-3))),
    "epsilon beside the root": lambda b, x: b.divide(x, b.plus(norm(b, x), 1e-3)),
    "reciprocal": lambda b, x: b.multiply(x, b.reciprocal(norm(b, x))),
    "quotient": lambda b, x: b.multiply(x, b.divide(1.0, norm(b, x))),
    "power": lambda b, x: b.multiply(x, b.power(squares(b, x), -0.5)),
    "product with itself": lambda b, x: b.divide(
        x,
        b.sqrt(
            b.reshape(b.add("dot", CONTRACTION, x, x, run=lambda a, c: (a * c).sum(-1), labels=("nc", "nc", "n")), 2, 1)
        ),
    ),
    "half precision": lambda b, x: b.divide(x, b.elementwise("cast", norm(b, b.cast(x)))),
    "times a number": lambda b, x: b.multiply(16.0, b.divide(x, norm(b, x))),
    "by a number": lambda b, x: b.divide(b.divide(x, norm(b, x)), 0.05),
    "a number in the scale": lambda b, x: b.multiply(x, b.multiply(5.0, b.rsqrt(squares(b, x)))),
    "times a learned number": lambda b, x: b.multiply(b.divide(x, norm(b, x)), b.weight()),
    "times a learned number, moved": lambda b, x: b.multiply(
        b.move(lambda a: np.broadcast_to(a, (2, 4)), b.weight((1,))), b.divide(x, norm(b, x))
    ),
    "plus zero": lambda b, x: b.plus(b.divide(x, norm(b, x)), 0.0),
    "reshaped": lambda b, x: b.reshape(b.divide(x, norm(b, x)), 2, 2, 2),
    "new axis": lambda b, x: b.move(lambda a: a[:, None], b.cast(b.divide(x, norm(b, x)))),
}


@pytest.mark.parametrize("normalized", NORMALIZED)
def test_embedding_before_its_normalisation(normalized):
    network = Network()
    output = NORMALIZED[normalized](network, network.z)
    answer = found(network, output)
    assert answer.pre_normalization == [network.z]
    assert (answer.final_activations, answer.logits) == (["l2_normalization"], [output])


NOT_NORMALIZED = {
    "by the largest": lambda b, x: b.divide(x, b.reduced("max", b.abs(x))),
    "by the sum": lambda b, x: b.divide(x, b.reduced("sum", b.abs(x))),
    "by the mean square": lambda b, x: b.multiply(x, b.rsqrt(b.reduced("mean", b.square(x)))),
    "by the squared norm": lambda b, x: b.divide(x, squares(b, x)),
    "times the norm": lambda b, x: b.multiply(x, norm(b, x)),
    "along the wrong axis": lambda b, x: b.divide(x, norm(b, x, axis=0)),
    "by another norm": lambda b, x: b.divide(x, norm(b, b.dense())),
    "by a norm and more": lambda b, x: b.divide(x, b.plus(norm(b, x), 1.0)),
    "by a learned norm": lambda b, x: b.divide(x, norm(b, b.multiply(x, b.weight((4,))))),
    "gradient stopped": lambda b, x: b.divide(x, b.stop_gradient(norm(b, x))),
    "a gate": lambda b, x: b.multiply(x, b.sigmoid(x)),
    "a weight for each": lambda b, x: b.multiply(b.divide(x, norm(b, x)), b.weight((4,))),
    "centred": lambda b, x: b.subtract(b.divide(x, norm(b, x)), b.weight((4,))),
    "reversed": lambda b, x: b.move(lambda a: a[:, ::-1], b.divide(x, norm(b, x))),
    "plus one": lambda b, x: b.plus(b.divide(x, norm(b, x)), 1.0),
}


@pytest.mark.parametrize("other", NOT_NORMALIZED)
def test_what_is_not_quite_a_normalisation_is_left(other):
    network = Network()
    output = NOT_NORMALIZED[other](network, network.z)
    answer = found(network, output)
    assert answer.pre_normalization == [output]
    assert answer.final_activations == [""]


def test_normalisation_of_one_sample_and_of_maps():
    network = Network((1, 4))
    output = network.divide(network.z, norm(network, network.z))
    assert found(network, output).pre_normalization == [network.z]
    network = Network((2, 3, 4))
    cells = network.divide(network.z, norm(network, network.z))
    assert found(network, cells).pre_normalization == [cells]
    everywhere = network.add(
        "norm", REDUCE, network.z, run=lambda a: np.sqrt((a * a).sum((1, 2), keepdims=True)), axes=(1, 2)
    )
    whole = network.divide(network.z, everywhere)
    assert found(network, whole).pre_normalization == [network.z]


def test_one_number_per_sample_is_not_normalised():
    network = Network((2, 1))
    output = network.divide(network.z, norm(network, network.z))
    assert found(network, output).pre_normalization == [output]


# --------------------------------------------------------------------------------------------------- several, and names


def test_several_outputs_are_told_apart_and_none_stays_none():
    network = Network()
    unit = network.divide(network.z, norm(network, network.z))
    model = types.SimpleNamespace(output_names=["a", "b", "c", "d"], loss={"d": "categorical_crossentropy"})
    answer = find_outputs(model, [network.softmax(network.z), None, unit, network.z])
    assert answer.logits == [network.z, None, unit, network.z]
    assert answer.final_activations == ["softmax", "", "l2_normalization", "logits"]
    assert answer.pre_normalization[1:] == [None, network.z, network.z]
    assert answer.names == ("a", "b", "c", "d")


def test_names_that_are_not_as_many_as_the_outputs_are_left_out():
    network = Network()
    assert found(network, network.z, model=types.SimpleNamespace(output_names=["a", "b"])).names == ()


def test_loss_of_a_compiled_model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    network = Network()
    answer = found(network, network.z, model=model)
    assert (answer.final_activations, answer.logits) == (["logits"], [network.z])


def test_scores_that_cannot_be_moved_again_are_refused():
    network = Network()
    output = network.reshape(network.sigmoid(network.z), 2, 2, 2)
    output.producer.apply = None
    (logits,) = found(network, output).logits
    with pytest.raises(TypeError, match="reshape"):
        rebuilt_tensor(logits, lambda value: np.zeros(value.shape))
