"""Transformers: no list of heads is taken for a map, and a map that only goes into a transformer is said to."""

from __future__ import annotations

import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812
from models import ClassToken, images, named, randomised

from keras_gradcam import Explainer, GuidedGradCAMCallback, Norm, explain, list_layers
from keras_gradcam.grids import token_grid

SIZE, PATCH, GRID = (24, 12), 4, (6, 3)
CELLS, WIDTH = 18, 4


def pictures(count=2):
    return images(count, SIZE)


def chosen_and_warned(model, **options):
    """The layer explained where none is named, and the layers the warning proposes; none without a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer = explain(model, pictures(), methods="gradcam", **options).layer
    messages = [str(one.message) for one in caught if "without a `layer`" in str(one.message).lower()]
    assert len(messages) == len(caught) <= 1
    return layer, re.findall(r"layer='([^']+)'", messages[0]) if messages else []


# ------------------------------------------------------------------------------------------------- transformers


def block(x, name, post=False):
    """A block of a transformer; its normalisations stand before attention and perceptron, or after them."""
    normed = x if post else L.LayerNormalization(name=f"{name}_norm1")(x)
    x = L.Add(name=f"{name}_add1")([x, L.MultiHeadAttention(2, 2, name=f"{name}_attention")(normed, normed)])
    normed = x = L.LayerNormalization(name=f"{name}_norm1")(x) if post else x
    normed = x if post else L.LayerNormalization(name=f"{name}_norm2")(x)
    x = L.Add(name=f"{name}_add2")([x, L.Dense(WIDTH, activation="gelu", name=f"{name}_dense")(normed)])
    return L.LayerNormalization(name=f"{name}_norm2")(x) if post else x


class HiddenBlock(L.Layer):
    """A block whose attention is made of operations, so that no layer bears its name."""

    def build(self, shape):
        self.norm1, self.norm2 = L.LayerNormalization(name="norm1"), L.LayerNormalization(name="norm2")
        self.mix, self.dense = L.Dense(3 * WIDTH, name="mix"), L.Dense(WIDTH, activation="gelu", name="dense")
        for layer in (self.norm1, self.norm2, self.mix, self.dense):
            layer.build(shape)

    def call(self, x):
        query, key, value = keras.ops.split(self.mix(self.norm1(x)), 3, axis=-1)
        x = x + keras.ops.softmax(query @ keras.ops.transpose(key, (0, 2, 1))) @ value
        return x + self.dense(self.norm2(x))


class AttentionBlock(L.Layer):
    """A block named after the attention in it."""

    def build(self, shape):
        self.norm = L.LayerNormalization(name="norm")
        self.attention = L.MultiHeadAttention(2, 2, name="attention")
        self.norm.build(shape)
        self.attention.build(shape, shape)

    def call(self, x):
        normed = self.norm(x)
        return x + self.attention(normed, normed)


def blocks(x, blocks_of=block, depth=2):
    for number in range(depth):
        x = blocks_of(x, f"b{number}")
    return x


def from_class_token(x):
    return x[:, 0]


def mean(x):
    return L.GlobalAveragePooling1D()(x)


def tokens_of(x, name="patches"):
    return L.Reshape((CELLS, WIDTH), name="tokens")(L.Conv2D(WIDTH, PATCH, PATCH, name=name)(x))


def transformer(blocks_of=block, read=from_class_token, embed=tokens_of, depth=2):
    inputs = keras.Input((*SIZE, 3))
    x = embed(inputs)
    x = ClassToken(name="class_token")(x) if read is from_class_token else x
    x = L.LayerNormalization(name="final")(blocks(x, blocks_of, depth))
    return randomised(keras.Model(inputs, L.Dense(3, name="dense")(read(x))))


def nested():
    inner_input = keras.Input((*SIZE, 3))
    x = ClassToken(name="class_token")(tokens_of(inner_input))
    backbone = keras.Model(inner_input, L.LayerNormalization(name="final")(blocks(x, depth=1)), name="backbone")
    inputs = keras.Input((*SIZE, 3))
    return randomised(keras.Model(inputs, L.Dense(3)(backbone(inputs)[:, 0])))


def convolved(x):
    x = L.Conv2D(5, 3, padding="same", activation="relu")(x)
    return tokens_of(L.Conv2D(5, 3, padding="same", activation="relu")(x), "stem")


def pooled_stem(x):
    """As compact transformers have it: tokens are cells of a map that has been pooled."""
    x = L.MaxPooling2D(4)(L.Conv2D(WIDTH, 3, padding="same", activation="relu", name="stem")(x))
    return L.Reshape((CELLS, WIDTH))(x)


def cut(x):
    """Patches that are cut out, without any convolution."""
    patches = keras.ops.reshape(
        keras.ops.image.extract_patches(L.Rescaling(2.0, name="rescaled")(x), PATCH), (-1, CELLS, 48)
    )
    return L.Dense(WIDTH, name="projected")(patches)


def hidden(x, name):
    return HiddenBlock(name=name)(x)


def named_block(x, name):
    return AttentionBlock(name=name)(x)


def mixer(x, name):
    """Tokens are mixed by a perceptron over them."""
    turned = L.Permute((2, 1))(L.LayerNormalization(name=f"{name}_norm1")(x))
    x = L.Add()([x, L.Permute((2, 1))(L.Dense(CELLS, name=f"{name}_mix")(turned))])
    return L.Add()([x, L.Dense(WIDTH, name=f"{name}_dense")(L.LayerNormalization(name=f"{name}_norm2")(x))])


def split_heads(x, name):
    """Attention written with layers that lay tokens out by heads."""
    heads = L.Permute((2, 1, 3), name=f"{name}_heads")(L.Reshape((-1, 2, 2))(L.LayerNormalization()(x)))
    mixed = L.Softmax(name=f"{name}_weights")(heads @ keras.ops.transpose(heads, (0, 1, 3, 2))) @ heads
    mixed = L.Reshape((-1, WIDTH))(L.Permute((2, 1, 3))(mixed))
    return L.Add()([x, L.Dense(WIDTH, name=f"{name}_out")(mixed)])


@pytest.mark.parametrize(
    ("build", "layer", "candidates"),
    [
        (nested, "backbone/patches", ["backbone/b0_norm1"]),
        (lambda: transformer(lambda x, name: block(x, name, post=True)), "patches", ["b0_norm2", "class_token"]),
        # How tokens are made and what their blocks are is read off different layers, so that two go into one network.
        (lambda: transformer(hidden, embed=convolved), "stem", ["b1/norm1", "b0/norm1"]),
        (lambda: transformer(mixer, read=mean, embed=pooled_stem), "stem", ["b1_norm1", "b0_norm1"]),
        (lambda: transformer(named_block, embed=cut), "rescaled", ["b1/norm", "b0/norm"]),
        (lambda: transformer(depth=4), "patches", ["b3_norm1", "b2_norm1", "b1_norm1"]),
    ],
    ids=["nested", "post-norm", "hybrid-hidden", "pooled-mixer", "cut-named-block", "deep"],
)
def test_map_that_goes_into_a_transformer_is_said_to_and_others_are_proposed(build, layer, candidates):
    model = build()
    assert chosen_and_warned(model) == (layer, candidates)
    shapes = {call.path: call.output_shape for call in list_layers(model)}
    assert [token_grid(shapes[candidate], SIZE) for candidate in candidates] == [GRID] * len(candidates)


def test_heads_laid_out_by_layers_are_no_maps():
    model = transformer(split_heads, depth=1)
    assert chosen_and_warned(model)[0] == "patches"
    listed = {call.path for call in list_layers(model)}
    assert {"patches", "tokens", "b0_out"} <= listed
    assert not {"b0_heads", "b0_weights"} & listed


def test_heads_within_an_attention_are_neither_listed_nor_explained():
    model = transformer(depth=1)
    listed = [call.path for call in list_layers(model)]
    assert "b0_attention" in listed
    assert not {f"b0_attention/{name}" for name in ("query", "key", "value", "softmax")} & set(listed)
    with pytest.raises(ValueError, match=r"`layer` must.*b0_attention/value.*\(None, 19, 2, 2\) has none"):
        explain(model, pictures(), layer="b0_attention/value")


def test_transformer_without_any_map_is_refused_with_the_same_candidates():
    inputs = keras.Input((*SIZE, 3))
    patches = keras.ops.reshape(keras.ops.image.extract_patches(inputs, PATCH), (-1, CELLS, 48))
    x = blocks(L.Dense(WIDTH, name="projected")(patches))
    model = keras.Model(inputs, L.Dense(2)(mean(x)))
    with pytest.raises(ValueError, match=r"`layer` must be named.*Candidates: 'b1_norm1', 'b0_norm1'\."):
        explain(model, pictures())


def test_warning_counts_the_layers_and_is_given_once():
    explainer = Explainer(transformer(depth=1), methods="gradcam")
    # tokens, class_token, norm1, the attention (with what it projects into last), add1, norm2, dense, add2, final
    with pytest.warns(
        UserWarning, match=r"the map of 'patches' is explained.*layers of tokens that follow it: 9\)"
    ) as caught:
        explainer(pictures())
    assert len([one for one in caught if "is explained, which goes into" in str(one.message)]) == 1
    explainer(pictures(3), lambda outputs: outputs[:, 0])
    explainer.features(pictures())


def test_cutting_a_model_at_the_map_that_was_chosen_warns_too():
    with pytest.warns(UserWarning, match=r"'patches' is explained, which goes into a transformer"):
        Explainer(transformer(read=mean, depth=1), target=Norm()).runner.split(pictures())


def test_callback_warns_once(tmp_path):
    model = transformer(depth=1)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callback = GuidedGradCAMCallback((pictures(), [0, 1]), tmp_path, methods="gradcam")
    with pytest.warns(UserWarning, match=r"'patches' is explained, which goes into a transformer") as caught:
        model.fit(pictures(), np.array([0, 1]), epochs=2, verbose=0, callbacks=[callback])
    assert len(caught) == 1


# ---------------------------------------------------------------------------------------------------- a planted cell


AFTER = ("b1_add1", "b1_norm2", "b1_add2", "final")


@pytest.fixture(scope="module", params=[from_class_token, mean])
def read_by(request):
    """How tokens are read, a transformer, and maps of its candidate and of what comes after the last attention.

    One program explains all of them, whatever weights the tests assign.
    """
    model = transformer(read=request.param)
    explainer = Explainer(model, methods=["gradcam", "hirescam"])

    def maps(method, given, target=None):
        found = explainer.with_target(target).at_layers(given, ["b1_norm1", *AFTER])
        return {layer: explanation.maps[method] for layer, explanation in found.items()}

    return request.param, model, maps


def plant(model):
    """The share of the first colour in each patch is passed on by an attention to all tokens alike, and classified.

    Features: 0 first colour, 1 second colour, 2 what attention brings, 3 nothing.
    """
    for weight in model.weights:
        weight.assign(np.ones(weight.shape) if weight.path.endswith("gamma") else np.zeros(weight.shape))
    kernel = np.zeros((PATCH, PATCH, 3, WIDTH))
    kernel[:, :, 0, 0] = kernel[:, :, 1, 1] = 1 / PATCH**2
    named(model, "patches").kernel.assign(kernel)
    attention = named(model, "b1_attention")
    value, output = np.zeros((WIDTH, 2, 2)), np.zeros((2, 2, WIDTH))
    value[0, 0, 0] = output[0, 0, 2] = 1.0
    attention._value_dense.kernel.assign(value)
    attention._output_dense.kernel.assign(output)
    named(model, "dense").kernel.assign(np.array([[0, 0, 0], [0, 0, 0], [-1, 1, 0], [0, 0, 0]]))


def test_first_candidate_shows_the_planted_cell_and_nothing_else(read_by):
    _, model, maps_of = read_by
    plant(model)
    x = np.zeros((CELLS, *SIZE, 3), "float32")
    x[..., 1] = 1.0
    cells = [divmod(number, GRID[1]) for number in range(CELLS)]
    for picture, (row, column) in zip(x, cells, strict=True):
        picture[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] = (3.0, 0.0, 0.0)
    layer, (candidate, *others) = chosen_and_warned(model)
    assert (layer, candidate, others) == ("patches", "b1_norm1", ["b0_norm1"])
    maps = maps_of("gradcam", x, 1)[candidate]
    assert maps.shape == (CELLS, *GRID)
    for found, cell in zip(maps, cells, strict=True):
        assert found[cell] > 0
        assert np.count_nonzero(found) == 1


def test_tokens_after_the_last_attention_are_empty_only_where_a_class_token_is_read(read_by):
    read, model, maps_of = read_by
    randomised(model)
    maps = maps_of("hirescam", pictures(8))
    assert all(array.shape == (8, *GRID) for array in maps.values())
    assert maps["b1_norm1"].any()
    assert [not maps[layer].any() for layer in AFTER] == [read is from_class_token] * len(AFTER)


# ----------------------------------------------------------------------------------------------------- no transformer


def on_map(build):
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(6, 3, strides=2, padding="same", activation="relu")(inputs)
    x = L.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv")(x)
    return randomised(keras.Model(inputs, L.Dense(3)(build(x))))


class Windows(L.Layer):
    """Attention among the 9 cells of each window of a map of 6 x 3 cells."""

    def build(self, shape):
        self.attention = L.MultiHeadAttention(2, 2, name="window_attention")
        self.attention.build((None, 9, shape[-1]), (None, 9, shape[-1]))

    def call(self, x):
        windows = keras.ops.reshape(x, (-1, 9, x.shape[-1]))
        return x + keras.ops.reshape(self.attention(windows, windows), (-1, *x.shape[1:]))


def windowed(x):
    x = Windows(name="windows")(L.LayerNormalization()(x))
    return L.GlobalAveragePooling2D()(L.Add(name="last")([x, L.Dense(8)(L.LayerNormalization()(x))]))


def squeezed(x):
    gates = L.Dense(8, activation="sigmoid")(L.Dense(2, activation="relu")(L.GlobalAveragePooling2D()(x)))
    return L.GlobalAveragePooling2D()(L.Multiply(name="last")([x, L.Reshape((1, 1, 8))(gates)]))


def attended_vectors(count):
    """Attention among parts of a vector, as many as a grid of tokens might have."""

    def build(x):
        parts = L.Reshape((count, 4))(L.Dense(4 * count)(L.GlobalAveragePooling2D()(x)))
        return L.Flatten()(L.Dense(4)(L.MultiHeadAttention(2, 2)(parts, parts)))

    return build


def stacked_vectors(x):
    """A vector of each of some pooled regions, without a layer that pools."""
    regions = keras.ops.stack([keras.ops.mean(x[:, row : row + 2], axis=(1, 2)) for row in range(0, 6, 2)], axis=1)
    return L.Flatten()(L.MultiHeadAttention(2, 2)(regions, regions))


class Laid(L.Layer):
    """A convolution that returns its cells as tokens."""

    def build(self, shape):
        self.conv = L.Conv2D(8, 1, name="inner")
        self.conv.build(shape)

    def call(self, x):
        return keras.ops.reshape(self.conv(x), (-1, CELLS, 8))


def attention_pooled(x):
    tokens = L.Reshape((CELLS, 8))(x)
    return keras.ops.sum(tokens * L.Softmax(axis=1)(L.Dense(1)(tokens)), axis=1)


def netvlad(x):
    tokens = L.Reshape((CELLS, 8))(x)
    return L.Flatten()(keras.ops.transpose(L.Softmax()(L.Dense(4)(tokens)), (0, 2, 1)) @ tokens)


def read_in_order(x):
    return mean(L.Bidirectional(L.SimpleRNN(4, return_sequences=True))(L.Reshape((CELLS, 8))(x)))


def seen_cell_by_cell(x):
    tokens = L.BatchNormalization()(L.Dense(8, activation="relu")(L.Reshape((CELLS, 8))(x)))
    return mean(L.BatchNormalization()(L.Dense(8, activation="relu")(tokens)))


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (windowed, "last"),
        (attention_pooled, "conv"),
        (netvlad, "conv"),
        (read_in_order, "conv"),
        (seen_cell_by_cell, "conv"),
        (lambda x: L.GRU(4)(L.Reshape((GRID[1], -1))(L.Permute((2, 1, 3))(x))), "conv"),
        (squeezed, "last"),
        (attended_vectors(16), "conv"),
        (attended_vectors(CELLS), "conv"),
        (stacked_vectors, "conv"),
        (lambda x: mean(L.Reshape((CELLS, 8))(x)), "conv"),
        (lambda x: mean(L.Activation("relu")(L.LayerNormalization()(L.Reshape((CELLS, 8))(x)))), "conv"),
        (lambda x: mean(Laid(name="laid")(x)), "laid/inner"),
    ],
    ids=[
        "windows",
        "pooled",
        "netvlad",
        "recurrent",
        "dense",
        "turned",
        "squeeze",
        "parts",
        "as-many-parts",
        "regions",
        "laid-out",
        "normalised",
        "laid-out-within",
    ],
)
def test_map_that_no_transformer_follows_is_explained_without_a_word(build, layer):
    assert chosen_and_warned(on_map(build)) == (layer, [])


def test_words_that_attend_to_a_map_are_no_transformer_of_it():
    inputs, words = keras.Input((*SIZE, 3)), keras.Input((CELLS, 8))
    x = L.Conv2D(8, 3, strides=4, padding="same", activation="relu", name="conv")(inputs)
    asked = L.LayerNormalization()(L.MultiHeadAttention(2, 2)(words, L.Reshape((CELLS, 8))(x)))
    model = randomised(keras.Model([inputs, words], L.Dense(3)(mean(L.LayerNormalization()(L.Dense(8)(asked))))))
    given = [pictures(), np.ones((2, CELLS, 8), "float32")]
    assert explain(model, given, target=0, methods="gradcam").layer == "conv"


def test_windows_are_not_proposed():
    """Their tokens are those of a part of the picture, many times as many as there are pictures."""

    def block_of(x, name):
        windows = keras.ops.reshape(L.LayerNormalization(name=f"{name}_norm")(x), (-1, 9, WIDTH))
        windows = L.MultiHeadAttention(2, 2, name=f"{name}_attention")(windows, windows)
        return L.Add(name=f"{name}_add")([x, keras.ops.reshape(windows, (-1, CELLS, WIDTH))])

    model = transformer(block_of, read=mean, depth=1)
    assert chosen_and_warned(model) == ("patches", ["b0_norm"])
    assert "b0_attention" not in {call.path for call in list_layers(model)}
    with pytest.raises(
        ValueError, match=r"`layer` must give one map per sample.*'b0_attention', which gives \d+ for \d+:"
    ):
        explain(model, pictures(), layer="b0_attention", methods="gradcam")


def test_series_keep_their_last_layer():
    inputs = keras.Input((20, 6))
    x = L.Conv1D(4, 3, padding="same", activation="relu")(inputs)
    x = block(x, "b0")
    model = randomised(keras.Model(inputs, L.Dense(2)(mean(x))))
    assert explain(model, np.ones((2, 20, 6), "float32"), methods="gradcam").layer == "b0_add2"
