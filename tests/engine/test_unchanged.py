"""Explaining leaves nothing behind: not on the model, not in Keras, not for other threads, whatever happens."""

from __future__ import annotations

import contextlib
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from models import CLASSES, SIZE, ConvnetByFunction, called, convnet, images, named, randomised, transfer
from snapshots import Snapshot, unchanged

from keras_gradcam import Class, Explainer, explain, list_layers

# -------------------------------------------------------------------------------------------------------- models, calls


class Fuse(L.Layer):
    """Does nothing, until it is lit: then its call raises."""

    lit = False

    def call(self, inputs):
        if Fuse.lit:
            raise RuntimeError("blown")
        return inputs


class Count(L.Layer):
    """Counts its calls in a variable."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, inputs):
        self.count.assign_add(1.0)
        return inputs


class Restless(keras.Model):
    """Counts its calls and draws random numbers at inference."""

    def __init__(self):
        super().__init__()
        self.count = Count(name="count")
        self.conv = L.Conv2D(4, 3, activation="relu", name="conv")
        self.noise = L.Dropout(0.5, seed=1)
        self.fuse = Fuse()
        self.mean = L.GlobalAveragePooling2D(name="mean")
        self.dense = L.Dense(CLASSES, name="dense")

    def call(self, inputs):
        x = self.noise(self.conv(self.count(inputs)), training=True)
        return self.dense(self.mean(self.fuse(x)))


def fused_transfer():
    model = transfer(frozen=True)
    inner = keras.Sequential([keras.Input((*SIZE, 3)), Fuse(name="fuse"), model])
    inner.compile("adam", "sparse_categorical_crossentropy")
    return inner


def fused_function():
    fuse = Fuse(name="fuse")
    return called(ConvnetByFunction(lambda x: fuse(keras.ops.relu(x))))


def fused_functional():
    inputs = keras.Input((*SIZE, 3))
    conv = L.Conv2D(3, 3, padding="same", activation="relu", name="conv")
    x = Fuse(name="fuse")(conv(conv(inputs)))
    x = L.BatchNormalization()(x)
    return randomised(keras.Model(inputs, L.Dense(CLASSES, name="dense")(L.GlobalAveragePooling2D(name="mean")(x))))


MODELS = {
    "transfer": fused_transfer,
    "functional": fused_functional,
    "restless": lambda: called(Restless()),
    "tf.function": fused_function,
}


def raising(predictions):
    raise ZeroDivisionError("my own")


@contextlib.contextmanager
def lit():
    Fuse.lit = True
    try:
        yield
    finally:
        Fuse.lit = False


def with_fuse_lit(call):
    def wrapped(model):
        with lit():
            call(model)

    return wrapped


def twice(model):
    explainer = Explainer(model)
    explainer(images(), 1)
    explainer(images(), [0, 1, 2])


SUCCEEDING = {
    "everything": lambda model: explain(model, images()),
    "gradcam": lambda model: explain(model, images(), methods="gradcam"),
    "guided": lambda model: explain(model, images(), methods="guided_backprop"),
    "twice": twice,
    "difference": lambda model: explain(model, images(), target=Class(0) - Class(1), methods="gradcam"),
    "function": lambda model: explain(model, images(), target=lambda outputs: outputs[:, 0], methods="gradcam"),
    "outputs": lambda model: Explainer(model).outputs(images()),
    "list_layers with pictures": lambda model: list_layers(model, images()),
}
FAILING = {
    "no such layer": (lambda model: explain(model, images(), layer="missing"), "layer"),
    "layer without space": (lambda model: explain(model, images(), layer="dense"), "layer"),
    "foreign layer": (lambda model: explain(model, images(), layer=L.Conv2D(2, 3)), "layer"),
    "no such call": (lambda model: explain(model, images(), layer="mean", layer_call=3), "layer_call"),
    "class out of range": (lambda model: explain(model, images(), target=CLASSES), "class"),
    "wrong number of classes": (lambda model: explain(model, images(), target=[0, 1]), "target"),
    "target that raises": (lambda model: explain(model, images(), target=raising), "my own"),
    "target of a wrong shape": (lambda model: explain(model, images(), target=lambda y: y), "one score"),
    "target of strings": (lambda model: explain(model, images(), target=lambda y: "cat"), None),
    "score from nowhere": (
        lambda model: explain(model, images(), target=lambda y: tf.zeros_like(y[:, 0])),
        "influence",
    ),
    "wrong channels": (lambda model: explain(model, images(channels=2)), None),
    "single picture": (lambda model: explain(model, images()[0]), None),
    "layer raises": (with_fuse_lit(lambda model: explain(model, images())), "blown"),
    "layer raises in list_layers": (with_fuse_lit(lambda model: list_layers(model, images())), "blown"),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    """One model for all ways of explaining: they do not change it."""
    return MODELS[request.param]()


@pytest.mark.parametrize("way", SUCCEEDING)
def test_explaining_leaves_the_model_as_it_was(model, way):
    with unchanged(model):
        SUCCEEDING[way](model)


@pytest.mark.parametrize("way", FAILING)
def test_failing_leaves_the_model_as_it_was(model, way):
    call, message = FAILING[way]
    with unchanged(model), pytest.raises(Exception, match=message):
        call(model)


@pytest.mark.parametrize("name", ["transfer", "functional"])
def test_listing_layers_without_pictures_leaves_the_model_as_it_was(name):
    model = MODELS[name]()
    with unchanged(model):
        list_layers(model)


def test_snapshot_sees_a_shadowed_call_a_weight_and_a_list():
    model = fused_functional()
    before = Snapshot(model)
    vars(named(model, "conv"))["call"] = lambda x: x
    named(model, "dense").bias.assign_add(np.ones(CLASSES))
    named(model, "fuse")._losses.append(1.0)
    changed = " ".join(before.differences(Snapshot(model)))
    for part in ("conv.call", "fuse._losses", "variables"):
        assert part in changed


def test_explaining_works_after_a_failure():
    model = fused_functional()
    expected = explain(model, images(), target=1)
    explainer = Explainer(model, target=1)
    with lit(), pytest.raises(Exception, match=r"blown"):
        explainer(images())
    with pytest.raises(ValueError, match=r"class"):
        explainer(images(), 99)
    np.testing.assert_array_equal(explainer(images()).gradcam, expected.gradcam)


# ---------------------------------------------------------------------------------------------------------------- state


def test_counter_and_seed_generator_do_not_advance():
    model = called(Restless())
    count, seed = float(model.count.count.value), model.noise.seed_generator.state.numpy().copy()
    explainer = Explainer(model)
    for _ in range(3):
        explainer(images())
    list_layers(model, images())
    assert float(model.count.count.value) == count
    np.testing.assert_array_equal(model.noise.seed_generator.state, seed)
    model(images())
    assert float(model.count.count.value) == pytest.approx(count + 1)


class TensorFlowCount(L.Layer):
    """Counts its calls in a variable that Keras does not know."""

    def __init__(self, **options):
        super().__init__(**options)
        self.count = tf.Variable(0.0, trainable=False)

    def call(self, inputs):
        self.count.assign_add(1.0)
        return inputs


def test_counter_in_a_tensorflow_variable_does_not_advance():
    model = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            TensorFlowCount(name="count"),
            L.Conv2D(2, 3, activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(2),
        ]
    )
    explainer = Explainer(model)
    explainer(images())
    explainer(images())
    assert float(named(model, "count").count) == 0


def test_batch_normalisation_forced_to_train_keeps_its_statistics():
    class Forced(L.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.norm = L.BatchNormalization(name="norm")

        def build(self, shape):
            self.norm.build(shape)

        def call(self, inputs):
            return self.norm(inputs, training=True)

    model = keras.Sequential(
        [keras.Input((*SIZE, 3)), L.Conv2D(2, 3, activation="relu"), Forced(), L.GlobalAveragePooling2D(), L.Dense(2)]
    )
    before = named(model, "norm").moving_mean.numpy().copy()
    explain(model, images())
    np.testing.assert_array_equal(named(model, "norm").moving_mean, before)


@pytest.mark.parametrize(
    "way", [lambda m: explain(m, images()), lambda m: list_layers(m)], ids=["explain", "list_layers"]
)
def test_losses_of_the_last_call_stay(way):
    class Penalty(L.Layer):
        def call(self, inputs):
            self.add_loss(keras.ops.sum(inputs**2))
            return inputs

    model = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            L.Conv2D(2, 3, activation="relu", activity_regularizer="l2", kernel_regularizer="l2"),
            Penalty(),
            L.GlobalAveragePooling2D(),
            L.Dense(2),
        ]
    )
    model(images())
    lists = [layer._losses for layer in model._flatten_layers()]
    before = [float(loss) for loss in model.losses]
    assert len(before) == 3
    way(model)
    assert [float(loss) for loss in model.losses] == before
    assert all(layer._losses is known for layer, known in zip(model._flatten_layers(), lists, strict=True))


class WithIdleLayer(keras.Model):
    """Holds a layer that it never calls, which therefore is never built."""

    def __init__(self):
        super().__init__()
        self.count = Count(name="count")
        self.conv, self.mean = L.Conv2D(2, 3, activation="relu"), L.GlobalAveragePooling2D()
        self.dense, self.idle = L.Dense(2), L.Dense(3, name="idle")

    def build(self, shape):
        self.built = True

    def call(self, inputs):
        return self.dense(self.mean(self.conv(self.count(inputs))))


def test_model_with_a_layer_that_is_never_built_is_not_called():
    model = WithIdleLayer()
    model(images())
    count = float(model.count.count.value)
    explain(model, images())
    list_layers(model, images())
    assert float(model.count.count.value) == count
    assert not model.idle.built


def test_building_a_model_leaves_its_counters_at_the_start():
    model = Restless()
    explain(model, images())
    assert float(model.count.count.value) == 0


def test_training_goes_on_as_if_nothing_had_been_explained():
    """Dropout, shuffling, moving averages and the optimiser draw from states that explaining must not touch."""

    def trained(explaining: bool):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((*SIZE, 3))
        x = L.BatchNormalization()(L.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(L.Dropout(0.3)(inputs)))
        x = L.GaussianNoise(0.3)(L.GlobalAveragePooling2D()(x))
        model = keras.Model(inputs, L.Dense(CLASSES, activation="softmax")(x))
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        explainer = Explainer(model)

        def at_epoch_end(epoch, logs):
            if explaining:
                explainer(images(), 1)
                explain(model, images(), methods="gradcam")

        callback = keras.callbacks.LambdaCallback(on_epoch_end=at_epoch_end)
        history = model.fit(
            images(12), np.arange(12) % CLASSES, epochs=3, batch_size=4, verbose=0, callbacks=[callback]
        )
        return [*model.get_weights(), history.history["loss"]]

    for with_, without in zip(trained(True), trained(False), strict=True):
        np.testing.assert_allclose(with_, without, rtol=1e-5, atol=1e-6)


# -------------------------------------------------------------------------------------------------------------- threads


class Gate(L.Layer):
    """Runs a function of the test's whenever it is called."""

    visit = staticmethod(lambda: None)

    def call(self, inputs):
        Gate.visit()
        return inputs * 1.0


@pytest.fixture
def gated():
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(4, 3, activation="relu", name="conv")(Count(name="count")(Gate()(inputs)))
    model = randomised(keras.Model(inputs, L.Dense(CLASSES, name="dense")(L.GlobalAveragePooling2D()(x))))
    named(model, "count").count.assign(0.0)
    yield model
    Gate.visit = staticmethod(lambda: None)


class Worker(threading.Thread):
    """A thread whose result or error is handed back by `result()`."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self._work, self._result, self._error = work, None, None
        self.start()

    def run(self):
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    def result(self):
        self.join(60)
        assert not self.is_alive(), "the thread hangs"
        if self._error:
            raise self._error
        return self._result


def test_threads_explain_one_model_at_once(gated):
    targets = [0, 1, 2, 3]
    expected = [explain(gated, images(), target=target) for target in targets]
    Gate.visit = staticmethod(lambda: time.sleep(0.05))
    barrier = threading.Barrier(len(targets))

    def work(target):
        barrier.wait(30)
        return explain(gated, images(), target=target)

    workers = [Worker(lambda target=target: work(target)) for target in targets]
    for worker, alone in zip(workers, expected, strict=True):
        result = worker.result()
        assert result.layer == "conv"
        np.testing.assert_allclose(result.gradcam, alone.gradcam, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(result.guided_backprop, alone.guided_backprop, rtol=1e-5, atol=1e-7)
    assert all("call" not in vars(layer) for layer in gated._flatten_layers())


def test_threads_share_one_explainer(gated):
    explainer = Explainer(gated, batch_size=2)
    expected = {target: explain(gated, images(5), target=target) for target in range(4)}
    barrier = threading.Barrier(4)

    def work(target):
        barrier.wait(30)
        return [explainer(images(5), target) for _ in range(5)]

    for target, worker in enumerate([Worker(lambda target=target: work(target)) for target in range(4)]):
        for result in worker.result():
            np.testing.assert_allclose(result.gradcam, expected[target].gradcam, rtol=1e-5, atol=1e-7)


@contextlib.contextmanager
def held_while_tracing(work):
    """Runs ``work``, which traces a model with a `Gate`, in a thread that is held inside that layer's call.

    Yields the worker; it goes on when the context ends, or when ``worker.release`` is set.
    """
    inside, release, owner = threading.Event(), threading.Event(), []

    def visit():
        if threading.get_ident() == owner[0] and not inside.is_set():
            inside.set()
            release.wait(30)

    def start():
        owner.append(threading.get_ident())
        Gate.visit = staticmethod(visit)
        return work()

    worker = Worker(start)
    worker.release = release
    try:
        assert inside.wait(30), "the layer is never called"
        yield worker
    finally:
        release.set()
        worker.join(60)
        Gate.visit = staticmethod(lambda: None)


def test_thread_that_calls_the_model_while_another_traces_is_not_disturbed(gated):
    expected = gated(images()).numpy()
    named(gated, "count").count.assign(0.0)
    with held_while_tracing(lambda: explain(gated, images(), target=1)) as worker:
        np.testing.assert_array_equal(gated(images()).numpy(), expected)
    assert float(named(gated, "count").count.value) == 1  # the call of this thread, and no other
    result = worker.result()
    np.testing.assert_allclose(result.gradcam, explain(gated, images(), target=1).gradcam, rtol=1e-5)


def test_thread_that_predicts_while_another_traces_is_not_disturbed(gated):
    expected = gated.predict(images(), verbose=0)
    with held_while_tracing(lambda: explain(gated, images())) as worker:
        np.testing.assert_array_equal(gated.predict(images(), verbose=0), expected)
    worker.result()


def test_functions_of_other_threads_stay_graphs_while_one_traces(gated):
    function = tf.function(lambda x: tf.constant(tf.executing_eagerly()))
    assert not function(1)
    with held_while_tracing(lambda: explain(gated, images())) as worker:
        assert not function(1)
    worker.result()


@contextlib.contextmanager
def two_traces(first, second):
    """``second`` starts while ``first`` is in its trace, and comes as far as it can before ``first`` goes on."""
    with held_while_tracing(first) as one:
        started = threading.Event()

        def work():
            started.set()
            return second()

        two = Worker(work)
        assert started.wait(30)
        time.sleep(0.3)
        one.release.set()
        yield one, two


def test_two_traces_at_once_do_not_leave_functions_running_eagerly(gated):
    assert not tf.config.functions_run_eagerly()
    with two_traces(lambda: explain(gated, images()), lambda: explain(gated, images())) as workers:
        for worker in workers:
            worker.result()
    assert not tf.config.functions_run_eagerly()


def test_tf_function_is_inlined_though_another_trace_ends_meanwhile(gated):
    model = called(ConvnetByFunction(tf.nn.relu))
    expected = explain(model, images(), target=1)
    with two_traces(lambda: explain(gated, images()), lambda: explain(model, images(), target=1)) as (_, two):
        result = two.result()
    assert result.layer == expected.layer
    np.testing.assert_allclose(result.gradcam, expected.gradcam, rtol=1e-5)
    np.testing.assert_allclose(result.guided_backprop, expected.guided_backprop, rtol=1e-5)


def test_interrupt_during_a_trace_leaves_the_model_as_it_was():
    model = convnet(activation="relu")

    def interrupting(predictions):
        raise KeyboardInterrupt

    with unchanged(model), pytest.raises(KeyboardInterrupt):
        explain(model, images(), target=interrupting)
