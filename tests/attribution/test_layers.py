"""Layers are listed, found by any name they may bear, and chosen; what cannot be found is answered with candidates."""

from __future__ import annotations

import keras
import pytest
from keras import layers as L  # noqa: N812
from models import SIZE, ConvnetByCall, convnet, convnet_in_sequence, images, nested_convnet

from keras_gradcam import Explainer, LayerCall, explain, list_layers
from keras_gradcam.attribution.inputs import model_input_spec
from keras_gradcam.attribution.layers import choose_layer
from keras_gradcam.engine import current_engine
from keras_gradcam.engine.base import LayerOutput

# -------------------------------------------------------------------------------------------------------------- listing


def test_functional_model_is_listed_without_pictures():
    assert list_layers(convnet(lambda position: L.ReLU(name=f"act{position}"))) == [
        LayerCall("conv1", "Conv2D", (None, 12, 10, 4)),
        LayerCall("act1", "ReLU", (None, 12, 10, 4)),
        LayerCall("conv2", "Conv2D", (None, 6, 5, 5)),
        LayerCall("act2", "ReLU", (None, 6, 5, 5)),
    ]


def test_notebooks_show_the_list_as_a_table():
    shown = list_layers(convnet(lambda position: L.ReLU(name=f"act{position}")))._repr_markdown_().splitlines()
    assert len(shown) == 6
    assert shown[2] == "| `conv1` | Conv2D | (None, 12, 10, 4) | 0 |"


def in_parts(size=(24, 20)):
    """Each picture is cut into an upper and a lower half, which are convolved as pictures of their own."""
    inputs = keras.Input((*size, 3))
    x = L.Conv2D(4, 3, padding="same", activation="relu", name="whole")(inputs)
    halves = keras.ops.reshape(x, (-1, size[0] // 2, size[1], 4))
    halves = L.Conv2D(4, 3, padding="same", activation="relu", name="half")(halves)
    x = keras.ops.reshape(halves, (-1, *size, 4))
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x)))


def doubled():
    """Looks at each picture and at its mirror image in one batch."""
    inputs = keras.Input((*SIZE, 3))
    both = keras.ops.concatenate([inputs, keras.ops.flip(inputs, 2)], axis=0)
    x = L.Dense(3)(L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(both)))
    return keras.Model(inputs, sum(keras.ops.split(x, 2, axis=0)))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_maps_of_anything_but_the_pictures_are_refused(count):
    pictures = images(count, SIZE)
    for model, layer in ((in_parts(SIZE), "half"), (doubled(), "conv")):
        message = rf"`layer` must give one map per sample.*'{layer}', which gives \d+ for \d+:"
        explainer = Explainer(model)
        for ask in (explainer, explainer.features, explainer.runner.traced if count == 1 else explainer):
            with pytest.raises(ValueError, match=message):
                ask(pictures)
    assert explain(in_parts(SIZE), pictures, layer="whole", methods="gradcam").gradcam.shape == (count, *SIZE)


def test_maps_of_anything_but_the_pictures_are_not_listed():
    assert [call.path for call in list_layers(in_parts())] == ["whole"]
    assert list_layers(doubled()) == list_layers(doubled(), images(2, SIZE)) == []


def test_a_batch_of_fixed_size_is_no_other_axis():
    inputs = keras.Input(batch_shape=(2, *SIZE, 3))
    x = L.Conv2D(4, 3, padding="same", activation="relu", name="conv")(inputs)
    x = L.Conv2D(4, 3, activation="relu", name="last")(keras.ops.reshape(x, (2, *SIZE, 4)))
    model = keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x)))
    assert [call.path for call in list_layers(model)] == ["conv", "last"]
    assert [call.path for call in list_layers(model, images(2, SIZE))] == ["conv", "last"]


def test_nested_models_are_looked_into():
    assert list_layers(nested_convnet()) == [
        LayerCall("middle/inner/conv1", "Conv2D", (None, 12, 10, 4)),
        LayerCall("middle/inner/act1", "ReLU", (None, 12, 10, 4)),
        LayerCall("middle/inner", "Functional", (None, 12, 10, 4)),
        LayerCall("middle/conv2", "Conv2D", (None, 6, 5, 5)),
        LayerCall("middle/act2", "ReLU", (None, 6, 5, 5)),
        LayerCall("middle", "Functional", (None, 6, 5, 5)),
    ]


def test_pictures_fix_the_shapes_of_a_fully_convolutional_model():
    model = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(2, 3, name="conv"), L.GlobalMaxPooling2D()])
    assert list_layers(model) == [LayerCall("conv", "Conv2D", (None, None, None, 2))]
    assert list_layers(model, images(size=(9, 7))) == [LayerCall("conv", "Conv2D", (None, 7, 5, 2))]


@pytest.mark.parametrize("built", [True, False])
def test_sequential_model(built):
    layers = [L.Conv2D(2, 3, name="conv"), L.MaxPooling2D(name="pool"), L.Flatten(), L.Dense(2)]
    model = keras.Sequential([keras.Input((*SIZE, 3)), *layers] if built else layers)
    assert list_layers(model, None if built else images()) == [
        LayerCall("conv", "Conv2D", (None, 10, 8, 2)),
        LayerCall("pool", "MaxPooling2D", (None, 5, 4, 2)),
    ]


def test_subclassed_model_needs_pictures():
    model = ConvnetByCall(keras.ops.relu)
    with pytest.raises(ValueError, match=r"`images` must be given.*ConvnetByCall"):
        list_layers(model)
    assert [call.path for call in list_layers(model, images())] == ["conv1", "conv2"]


def test_layers_kept_in_lists_and_inside_layers_are_listed():
    class Block(L.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.steps = [L.Conv2D(2, 1, name=f"step{position}") for position in range(2)]

        def build(self, shape):
            for step in self.steps:
                step.build(shape)

        def call(self, inputs):
            for step in self.steps:
                inputs = step(inputs)
            return inputs

    model = keras.Sequential([keras.Input((4, 4, 2)), Block(name="block"), L.GlobalAveragePooling2D()])
    assert [call.path for call in list_layers(model)] == ["block/step0", "block/step1", "block"]


def test_shared_layer_is_listed_once_per_call():
    assert [(call.path, call.call) for call in list_layers(shared())] == [("conv", 0), ("conv", 1), ("join", 0)]


def test_maps_of_one_cell_and_vectors_are_not_listed():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            L.Conv2D(2, 3, name="map"),
            L.Conv2D(2, 2, name="one_cell"),
            L.GlobalAveragePooling2D(keepdims=True, name="mean"),
            L.Flatten(),
            L.Dense(3),
        ]
    )
    assert [call.path for call in list_layers(model)] == ["map"]


def test_column_of_cells_is_a_map():
    model = keras.Sequential([keras.Input((4, 2, 2)), L.Conv2D(2, 2, name="column"), L.GlobalMaxPooling2D()])
    assert list_layers(model) == [LayerCall("column", "Conv2D", (None, 3, 1, 2))]


def test_tokens_that_form_a_grid_are_listed():
    inputs = keras.Input((8, 4, 3))
    tokens = L.Reshape((32, 3), name="tokens")(inputs)
    odd = L.Reshape((6, 16), name="no_grid")(tokens)
    model = keras.Model(inputs, L.Dense(2)(L.Flatten()(odd)))
    assert [call.path for call in list_layers(model)] == ["tokens"]


def test_wrong_pictures_are_refused():
    with pytest.raises(ValueError, match=r"expected shape|incompatible|must have the shape"):
        list_layers(convnet(activation="relu"), images(channels=2))


# -------------------------------------------------------------------------------------------------------------- finding


def calls_of(model):
    """What the engine would hand to `choose_layer`, without running the model: TensorFlow refuses some of the names."""
    shape = (None, 6, 5, 4)
    return [
        LayerOutput(LayerCall(layer.name, type(layer).__name__, shape), layer, object())
        for layer in model.layers
        if "Conv" in type(layer).__name__
    ]


def named_convs(*names):
    return keras.Sequential([keras.Input((6, 5, 4)), *(L.Conv2D(4, 1, name=name) for name in names)])


def found(model, layer, **options):
    return choose_layer(model, calls_of(model), (6, 5, 3), layer, **options)


STRANGE = [
    "a.b",
    "two words",
    "back\\slash",
    "dot\\.escaped",
    "größe",
    "卷积",
    "-dash",
    "_under",
    "conv*",
    "a+b(c)[d]",
    "$",
]


@pytest.mark.parametrize("name", STRANGE)
def test_layer_is_found_by_any_name(name):
    model = named_convs(*STRANGE)
    assert found(model, name).layer is model.get_layer(name)


def test_escaped_name_finds_the_layer_without_escapes():
    model = named_convs("a.b", "c d", "e\\f")
    assert found(model, "a\\.b").info.path == "a.b"
    assert found(model, "c\\ d").info.path == "c d"
    assert found(model, "e\\\\f").info.path == "e\\f"


def test_name_as_it_stands_comes_before_its_escapes():
    assert found(named_convs("a.b", "a\\.b"), "a\\.b").info.path == "a\\.b"


def test_name_is_no_pattern():
    with pytest.raises(ValueError, match=r"Candidates"):
        found(named_convs("axb"), "a.b")


def test_name_with_dot_is_explained():
    model = keras.Sequential(
        [keras.Input((6, 5, 3)), L.Conv2D(2, 2, activation="relu", name="stem.conv"), L.GlobalMaxPooling2D()]
    )
    for name in ("stem.conv", "stem\\.conv"):
        assert explain(model, images(size=(6, 5)), layer=name, target=0, methods="gradcam").layer == "stem.conv"


@pytest.fixture(scope="module")
def nested():
    model = nested_convnet()
    return model, current_engine().layer_calls(model, model_input_spec(model))


@pytest.mark.parametrize(
    ("layer", "path"),
    [
        ("conv1", "middle/inner/conv1"),
        ("inner/conv1", "middle/inner/conv1"),
        ("middle/inner/conv1", "middle/inner/conv1"),
        ("inner", "middle/inner"),
        ("middle", "middle"),
        ("middle/conv2", "middle/conv2"),
    ],
)
def test_layer_is_found_by_name_and_path(nested, layer, path):
    model, calls = nested
    assert choose_layer(model, calls, (*SIZE, 3), layer).info.path == path


@pytest.mark.parametrize("layer", ["onv1", "r/conv1", "inner/conv2", "middle/conv1", "/conv1", "conv1/", ""])
def test_part_of_a_name_is_not_a_name(nested, layer):
    model, calls = nested
    with pytest.raises(ValueError, match=r"`layer` must name a layer"):
        choose_layer(model, calls, (*SIZE, 3), layer)


def test_layer_object_is_found(nested):
    model, calls = nested
    layer = model.get_layer("middle").get_layer("inner").get_layer("conv1")
    assert choose_layer(model, calls, (*SIZE, 3), layer).layer is layer


def test_layer_of_another_model_is_refused(nested):
    model, calls = nested
    foreign = convnet(activation="relu").get_layer("conv2")
    with pytest.raises(ValueError, match=r"Conv2D 'conv2'.*Candidates: .*'middle/conv2'"):
        choose_layer(model, calls, (*SIZE, 3), foreign)


@pytest.mark.parametrize("layer", [3, 1.5, object()])
def test_what_is_no_layer_is_refused(nested, layer):
    model, calls = nested
    with pytest.raises(ValueError, match=r"`layer` must name a layer.*Candidates"):
        choose_layer(model, calls, (*SIZE, 3), layer)


def two_towers():
    inputs = keras.Input((*SIZE, 3))
    towers = [convnet_in_sequence(name=name, seed=seed) for seed, name in enumerate(("left", "right"))]
    return keras.Model(inputs, L.Add()([tower(inputs) for tower in towers]))


def test_ambiguous_name_lists_all_candidates():
    with pytest.raises(ValueError, match=r"names 2.*'left/conv2', 'right/conv2'"):
        explain(two_towers(), images(), layer="conv2", methods="gradcam")


def test_path_tells_layers_of_one_name_apart():
    model = two_towers()
    for path in ("left/conv2", "right/conv2"):
        assert explain(model, images(), target=0, layer=path, methods="gradcam").layer == path
    assert (
        explain(model, images(), target=0, layer=model.get_layer("left").layers[1], methods="gradcam").layer
        == "left/conv2"
    )


def test_layer_reachable_by_two_paths_is_not_ambiguous():
    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.backbone = keras.Sequential([L.Conv2D(2, 3, activation="relu", name="conv")], name="backbone")
            self.block = keras.Sequential([self.backbone, L.GlobalAveragePooling2D()], name="block")

        def call(self, inputs):
            return self.block(inputs)

    assert explain(Twice(), images(), target=0, layer="conv", methods="gradcam").layer.endswith("backbone/conv")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("con1", "middle/inner/conv1"), ("midle/inner/conv1", "middle/inner/conv1"), ("Conv2", "middle/conv2")],
)
def test_misspelt_name_proposes_the_nearest(nested, wrong, near):
    model, calls = nested
    with pytest.raises(ValueError, match=rf"Received: '{wrong}'.*Candidates: '{near}'"):
        choose_layer(model, calls, (*SIZE, 3), wrong)


def test_name_unlike_any_other_proposes_the_last_layers(nested):
    model, calls = nested
    with pytest.raises(ValueError, match=r"Candidates: 'middle/inner/act1', .*'middle'"):
        choose_layer(model, calls, (*SIZE, 3), "zzzzzzzz")


@pytest.mark.parametrize("layer", ["mean", "dense"])
def test_layer_without_spatial_extent_is_refused_with_its_shape(layer):
    with pytest.raises(ValueError, match=rf"'{layer}', whose output of shape \(None, .*Candidates: 'conv1', 'conv2'"):
        explain(convnet(activation="relu"), images(), layer=layer, methods="gradcam")


def test_layer_that_is_not_called_is_refused():
    class Idle(ConvnetByCall):
        def __init__(self):
            super().__init__(keras.ops.relu)
            self.idle = L.Conv2D(2, 3, name="idle")
            self.idle.build((None, *SIZE, 3))

    with pytest.raises(ValueError, match=r"'idle', which the model does not call.*Candidates"):
        explain(Idle(), images(), layer="idle", methods="gradcam")


def test_layer_the_score_does_not_depend_on_is_refused():
    inputs = keras.Input((*SIZE, 3))
    outputs = [
        L.Dense(2, name=f"out{branch}")(
            L.GlobalAveragePooling2D()(L.Conv2D(2, 3, activation="relu", name=branch)(inputs))
        )
        for branch in "ab"
    ]
    model = keras.Model(inputs, outputs)
    from keras_gradcam import Output

    with pytest.raises(ValueError, match=r"`layer` must influence the target.*'a'"):
        explain(model, images(), layer="a", target=Output(1, 0), methods="gradcam")


def test_model_without_feature_map_is_refused():
    model = keras.Sequential([keras.Input((4, 4, 1)), L.Flatten(), L.Dense(3, activation="relu"), L.Dense(2)])
    with pytest.raises(ValueError, match=r"`layer` must be named.*\(4, 4, 1\).*Candidates: none"):
        explain(model, images(size=(4, 4), channels=1), methods="gradcam")


# ----------------------------------------------------------------------------------------------------- calls of a layer


def shared():
    """One convolution called twice, the second time on its own output."""
    inputs = keras.Input((*SIZE, 3))
    conv = L.Conv2D(3, 3, padding="same", activation="relu", name="conv")
    joined = L.Add(name="join")([inputs, conv(conv(inputs))])
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(joined)))


@pytest.fixture(scope="module")
def shared_calls():
    model = shared()
    return model, current_engine().layer_calls(model, model_input_spec(model))


@pytest.mark.parametrize(("layer_call", "call"), [(None, 1), (0, 0), (1, 1), (-1, 1), (-2, 0)])
def test_call_of_a_shared_layer_is_chosen(shared_calls, layer_call, call):
    model, calls = shared_calls
    assert choose_layer(model, calls, (*SIZE, 3), "conv", layer_call).info.call == call


@pytest.mark.parametrize("layer_call", [2, -3])
def test_call_that_does_not_happen_is_refused(shared_calls, layer_call):
    model, calls = shared_calls
    with pytest.raises(ValueError, match=rf"`layer_call`.*'conv'.*Received: {layer_call}.*0 to 1"):
        choose_layer(model, calls, (*SIZE, 3), "conv", layer_call)


def test_layer_call_without_layer_is_refused(shared_calls):
    model, calls = shared_calls
    with pytest.raises(ValueError, match=r"`layer_call` must come with `layer`"):
        choose_layer(model, calls, (*SIZE, 3), None, 0)


# ----------------------------------------------------------------------------------------------------- automatic choice


def fake(*specs):
    """Captures of (path, type, shape, influences the score, is the model's output, tensor)."""
    tensors = {}
    return [
        LayerOutput(LayerCall(path, kind, shape), None, tensors.setdefault(tensor, object()), influences, final)
        for path, kind, shape, influences, final, tensor in specs
    ]


MAP, VECTOR = (None, 6, 5, 4), (None, 4)


@pytest.mark.parametrize(
    ("calls", "chosen"),
    [
        ([("conv", "Conv2D", MAP, True, False, 0), ("relu", "ReLU", MAP, True, False, 1)], "relu"),
        ([("conv", "Conv2D", MAP, True, False, 0), ("mean", "Pooling", VECTOR, True, False, 1)], "conv"),
        ([("conv", "Conv2D", MAP, True, False, 0), ("pool", "MaxPooling2D", MAP, True, False, 1)], "conv"),
        ([("pool", "MaxPooling2D", MAP, True, False, 1)], "pool"),
        ([("conv", "Conv2D", MAP, True, False, 0), ("drop", "Dropout", MAP, True, False, 0)], "conv"),
        ([("net/conv", "Conv2D", MAP, True, False, 0), ("net", "Functional", MAP, True, False, 0)], "net/conv"),
        ([("conv", "Conv2D", MAP, True, False, 0), ("other", "Conv2D", MAP, False, False, 1)], "conv"),
        ([("conv", "Conv2D", MAP, True, False, 0), ("mask", "Conv2D", MAP, True, True, 1)], "conv"),
        ([("conv", "Conv2D", MAP, True, False, 0), ("cell", "Conv2D", (None, 1, 1, 4), True, False, 1)], "conv"),
        ([("conv", "Conv2D", MAP, True, False, 0), ("tokens", "Reshape", (None, 30, 4), True, False, 1)], "conv"),
    ],
    ids=["last", "vector", "pool", "pool alone", "dropout", "nested", "other branch", "output", "one cell", "tokens"],
)
def test_last_feature_map_is_chosen(calls, chosen):
    assert choose_layer(None, fake(*calls), (6, 5, 3)).info.path == chosen
