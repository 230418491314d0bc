"""The strongest activations are those of sorting all of them at once, and crops are what brute force sees."""

from __future__ import annotations

import gc
import tracemalloc

import keras
import numpy as np
import pytest
from backends import BACKEND
from fields import changed_boxes, loud, squeeze_and_excite
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as L  # noqa: N812
from models import SIZE, images, nested_convnet, randomised
from retrieval_sets import dataset
from snapshots import unchanged

from keras_gradcam import Explainer
from keras_gradcam.filters.receptive_field import receptive_field
from keras_gradcam.filters.top_activations import Best, top_activations


def network(activation="relu", seed=0):
    """Branches with different fields, strides, and a border that is cut."""
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(4, 3, strides=2, padding="same", activation=activation)(inputs)
    x = L.Concatenate(name="end")([L.Conv2D(3, 3, padding="same", activation=activation)(x), x])
    return randomised(keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x))), seed)


def slow_top(features, top):
    """Of every channel the (value, picture, cell) of the strongest pictures, by sorting all of them."""
    found = []
    for channel in range(features.shape[-1]):
        entries = []
        for number, picture in enumerate(features[..., channel]):
            if np.isnan(picture).all():
                continue
            cell = np.unravel_index(np.nanargmax(picture), picture.shape)
            entries.append((float(picture[cell]), number, (int(cell[0]), int(cell[1]))))
        found.append(sorted(entries, key=lambda entry: (-entry[0], entry[1]))[:top])
    return found


def entries(found):
    return [[(one.value, one.index, one.cell) for one in row] for row in found.activations]


# --------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("activation", ["relu", None])
@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_strongest_activations_are_those_of_sorting_all(activation, batch_size):
    model, pictures = network(activation), images(23)
    found = top_activations(model, pictures, "end", top=4, batch_size=batch_size)
    features = Explainer(model, layer="end").features(pictures)
    expected = slow_top(features, 4)
    assert [[one[1:] for one in row] for row in entries(found)] == [[one[1:] for one in row] for row in expected]
    np.testing.assert_allclose(found.values(), [[one[0] for one in row] for row in expected], rtol=1e-5)
    np.testing.assert_array_equal(found.indices(), [[one[1] for one in row] for row in expected])
    assert (found.layer, found.samples, len(found)) == ("end", 23, 7)
    np.testing.assert_array_equal(found.rectified, (features >= 0).all(axis=(0, 1, 2)))


def test_crops_are_what_brute_force_sees():
    model, pictures = network(), images(9)
    found = top_activations(model, pictures, "end", top=3)
    loud_model = loud(network())
    boxes = changed_boxes(Explainer(loud_model, layer="end", batch_size=512).features, (*SIZE, 3))
    sizes = set()
    for channel, row in zip(found.filters, found.activations, strict=True):
        for one in row:
            assert one.box == tuple(boxes[(*one.cell, channel)])
            x0, y0, x1, y1 = one.box
            np.testing.assert_array_equal(one.crop, pictures[one.index, y0:y1, x0:x1])
            sizes.add(one.crop.shape[:2])
    assert len(sizes) > 2  # the branches' fields, whole and clipped


def test_equal_activations_go_to_the_earliest_picture():
    pictures = images(12)[[3, 1, 3, 0, 3, 1, 0, 3, 1, 5, 5, 0]]
    found = top_activations(network(), pictures, "end", top=12, batch_size=5)
    for row in entries(found):
        assert row == sorted(row, key=lambda entry: (-entry[0], entry[1]))
        assert len({index for _, index, _ in row}) == 12


def test_not_a_number_never_wins():
    model = network(activation=None)  # TensorFlow's ReLU of NaN may be zero
    pictures = images(6)
    pictures[2] = np.nan
    pictures[4, 0, 0] = np.nan  # spoils some cells of it, not all
    found = top_activations(model, pictures, "end", top=6)
    for row, channel in zip(entries(found), range(7), strict=True):
        assert {index for _, index, _ in row} == {0, 1, 3, 4, 5}, channel
        assert all(np.isfinite(value) for value, _, _ in row)
    assert np.isnan(found.values()).sum() == 0
    assert found.draw().dtype == np.uint8


def test_layer_that_is_nothing_but_not_a_number():
    found = top_activations(network(None), np.full((3, *SIZE, 3), np.nan, "float32"), "end", filters=[0, 1])
    assert entries(found) == [[], []]
    assert found.values().shape == found.indices().shape == (2, 0)
    assert not found.never_active.any()
    assert found.draw().shape[1] > 400


def test_fewer_pictures_than_asked_for():
    found = top_activations(network(), images(2), "end", top=9)
    assert found.values().shape == (7, 2)


# -------------------------------------------------------------------------------------------------------------- filters


def test_filters_are_chosen_in_any_order():
    model, pictures = network(), images(8)
    all_of_them = top_activations(model, pictures, "end", top=3)
    some = top_activations(model, pictures, "end", [6, 0], 3)
    assert entries(some) == [entries(all_of_them)[6], entries(all_of_them)[0]]
    assert some.filters.tolist() == [6, 0]
    one = top_activations(model, pictures, "end", 2, 3)
    assert entries(one) == [entries(all_of_them)[2]]


def test_wide_layers_are_looked_at_in_part():
    model = randomised(keras.Sequential([keras.Input((*SIZE, 3)), L.Conv2D(70, 3, name="wide"), L.GlobalMaxPool2D()]))
    assert top_activations(model, images(2), "wide", top=1).filters.tolist() == list(range(64))
    assert top_activations(model, images(2), "wide", range(60, 70), top=1).filters.tolist() == list(range(60, 70))


@pytest.mark.parametrize("filters", [7, -1, [0, 7], [], [0.5], "all", [[0, 1]], True])
def test_filters_that_are_not_there_are_answered_with_candidates(filters):
    with pytest.raises(ValueError, match=r"`filters` must be channels.*Received: .*Candidates: 0 to 6"):
        top_activations(network(), images(2), "end", filters)


@pytest.mark.parametrize("option", [{"top": 0}, {"top": 1.5}, {"top": True}, {"batch_size": 0}, {"batch_size": None}])
def test_numbers_that_are_none_are_refused(option):
    with pytest.raises(ValueError, match=rf"`{next(iter(option))}` must be a whole number >= 1"):
        top_activations(network(), images(2), "end", **option)


def test_silent_filters_are_told_from_negative_ones():
    pictures = images(5)

    def made(bias, activation):
        inputs = keras.Input((*SIZE, 3))
        x = L.Conv2D(2, 3, activation=activation, name="conv")(inputs)
        model = randomised(keras.Model(inputs, L.Flatten()(x)))
        kernel, _ = model.get_layer("conv").get_weights()
        model.get_layer("conv").set_weights([kernel, np.array([bias, 0.0], "float32")])
        return top_activations(model, pictures, "conv", top=3)

    dead, negative = made(-1e3, "relu"), made(-1e3, None)
    assert dead.never_active.tolist() == [True, False]
    assert negative.never_active.tolist() == [False, False]
    assert negative.rectified.tolist() == [False, False]
    # A dead filter's row holds a line of words in place of crops.
    assert dead.draw().shape[0] < negative.draw().shape[0]


# --------------------------------------------------------------------------------------------------------- data sets


def test_every_form_of_data_set_gives_the_same():
    model, pictures = network(), images(11)
    labels = np.arange(11)
    expected = entries(top_activations(model, pictures, "end", top=3, batch_size=4))
    forms = [(pictures, labels), (pictures[start : start + 5] for start in range(0, 11, 5))]
    if BACKEND == "tensorflow":
        forms += [dataset(pictures, labels), dataset(pictures, labels).batch(3)]
    for form in forms:
        assert entries(top_activations(model, form, "end", top=3, batch_size=4)) == expected
    dicts = [{"picture": one, "class": label} for one, label in zip(pictures, labels, strict=True)]
    for options in ({"image": "picture", "label": "class"}, {"image": lambda sample: sample["picture"]}):
        assert entries(top_activations(model, dicts, "end", top=3, batch_size=4, **options)) == expected


def test_progress_is_told_after_every_batch():
    done = []
    top_activations(network(), images(11), "end", batch_size=4, progress=done.append)
    assert done == [4, 8, 11]


def test_whole_numbers_stay_whole_numbers():
    model = network()
    pictures = np.random.default_rng(0).integers(0, 256, (6, *SIZE, 3), dtype=np.uint8)
    found = top_activations(model, pictures, "end", top=2)
    assert found.activations[0][0].crop.dtype == np.uint8
    assert found.limits == (float(pictures.min()), float(pictures.max()))


def test_picture_of_several_inputs():
    small, big = keras.Input((4,), name="a_number"), keras.Input((*SIZE, 3), name="picture")
    x = L.Multiply(name="gate")([L.Conv2D(2, 3)(big), L.Reshape((1, 1, 2))(L.Dense(2)(small))])
    model = randomised(keras.Model({"a_number": small, "picture": big}, L.Flatten()(x)))
    pictures = images(5)
    found = top_activations(model, {"a_number": np.ones((5, 4), "float32"), "picture": pictures}, "gate", top=2)
    one = found.activations[1][0]
    x0, y0, x1, y1 = one.box
    np.testing.assert_array_equal(one.crop, pictures[one.index, y0:y1, x0:x1])


def test_gates_are_left_out_of_the_crops():
    inputs = keras.Input((*SIZE, 3))
    x = squeeze_and_excite(L.Conv2D(4, 3, activation="relu")(inputs))
    x = L.Identity(name="end")(x)
    model = randomised(keras.Model(inputs, L.Flatten()(x)))
    found = top_activations(model, images(4), "end")
    assert found.field.gated
    assert {one.crop.shape for row in found.activations for one in row} == {(3, 3, 3)}
    assert receptive_field(model, "end").box(0, 0) == (0, 0, 10, 12)


def test_last_feature_map_is_taken_by_default():
    assert top_activations(nested_convnet(), images(3), top=1).layer == "middle/act2"


def test_pictures_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`images` must have the shape that the model takes"):
        top_activations(network(), images(3, size=(4, 4)), "end")
    with pytest.raises(ValueError, match="`layer` must name a layer"):
        top_activations(network(), images(3), "no such layer")


def test_searching_leaves_the_model_as_it_was():
    model = network()
    with unchanged(model):
        top_activations(model, images(5), "end", top=2).draw()


# -------------------------------------------------------------------------------------------------------------- memory


def test_memory_does_not_grow_with_the_data_set():
    size = (64, 64)
    inputs = keras.Input((*size, 3))
    x = L.Conv2D(3, 3, 4, activation="relu", name="conv")(inputs)
    model = randomised(keras.Model(inputs, L.GlobalAveragePooling2D()(x)))

    def peak(count):
        # Every picture is louder than the one before: all of them are kept for a while.
        stream = (np.full((8, *size, 3), start, "float32") for start in range(count))
        gc.collect()
        tracemalloc.start()
        top_activations(model, stream, "conv", top=4, batch_size=8)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(3)
    short, long = peak(4), peak(30)
    # 30 batches are 12 MB.
    assert long < short + 1e6


def test_crops_hold_no_picture_alive():
    found = top_activations(network(), images(9), "end", top=3)
    for row in found.activations:
        for one in row:
            assert one.crop.base is None


def test_filters_that_see_the_same_share_their_crop():
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(4, (11, 9), padding="same", activation="relu", name="conv")(inputs)
    model = randomised(keras.Model(inputs, L.Flatten()(x)))
    found = top_activations(model, images(1), "conv")
    crops = {(one.index, one.box): id(one.crop) for row in found.activations for one in row}
    assert len({id(one.crop) for row in found.activations for one in row}) == len(crops)


# ------------------------------------------------------------------------------------------------------------- picture


def shown(picture, color):
    return int((picture == color).all(axis=-1).sum())


def test_picture_shows_every_crop_in_its_colours():
    pictures = np.zeros((2, *SIZE, 3), "float32")
    pictures[0, ..., 0] = 1.0  # red
    pictures[1, ..., 2] = 0.5  # half as blue
    inputs = keras.Input((*SIZE, 3))
    conv = L.Conv2D(1, 3, name="conv", use_bias=False)
    model = keras.Model(inputs, L.Flatten()(conv(inputs)))
    conv.set_weights([np.ones((3, 3, 3, 1), "float32")])
    picture = top_activations(model, pictures, "conv").draw()
    assert shown(picture, (255, 0, 0)) > 100 * 100
    assert shown(picture, (0, 0, 128)) > 100 * 100


def test_one_rule_of_display_for_all_crops():
    # Every crop lies within 0 to 1, the pictures do not: they are stretched from -3 to 1.
    pictures = np.zeros((2, *SIZE, 3), "float32")
    pictures[0, 0, 0] = -3.0
    pictures[1, 6, 6] = 1.0
    inputs = keras.Input((*SIZE, 3))
    conv = L.Conv2D(1, 1, name="conv", use_bias=False)
    model = keras.Model(inputs, L.Flatten()(conv(inputs)))
    conv.set_weights([np.ones((1, 1, 3, 1), "float32")])
    found = top_activations(model, pictures, "conv")
    assert found.limits == (-3.0, 1.0)
    assert shown(found.draw(), (191, 191, 191)) > 100 * 100
    assert shown(found.draw(), (255, 255, 255)) > 100 * 100


def test_own_display():
    found = top_activations(network(), images(4), "end", top=2)
    seen = []

    def green(crop):
        seen.append(crop.shape)
        return np.broadcast_to(np.uint8([0, 200, 0]), (*crop.shape[:2], 3))

    assert shown(found.draw(green), (0, 200, 0)) > 1000
    assert seen == [one.crop.shape for row in found.activations for one in row if one.value > 0]


def test_clipped_crops_stand_where_they_were_cut():
    found = top_activations(network(), images(30), "end", [0], top=9)
    (row,) = found.activations
    clipped = [one for one in row if one.crop.shape[:2] != found.field.size]
    assert clipped
    cell = found.field.size
    for one in clipped:
        drawn = found._placed(np.zeros((*one.crop.shape[:2], 3), np.uint8), one, cell, 10)
        rows, columns = np.nonzero((drawn[1:-1, 1:-1] == 0).all(axis=-1))
        x0, y0, _, _ = found.field.unclipped(*one.cell)
        assert abs(rows.min() + 1 - 10 * (one.box[1] - y0)) <= 1
        assert abs(columns.min() + 1 - 10 * (one.box[0] - x0)) <= 1


def test_cells_in_the_padding_have_empty_crops():
    inputs = keras.Input((*SIZE, 3))
    x = L.ZeroPadding2D(1, name="padded")(inputs)
    model = keras.Model(inputs, L.Flatten()(L.Conv2D(2, 3)(x)))
    found = top_activations(model, -1 - np.zeros((2, *SIZE, 3), "float32"), "padded")
    one = found.activations[0][0]
    assert (one.value, one.index, one.cell, one.box, one.crop.shape) == (0.0, 0, (0, 0), (0, 0, 0, 0), (0, 0, 3))
    assert found.draw().dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 2, 4, None])
def test_pictures_of_any_channels(channels):
    shape = SIZE if channels is None else (*SIZE, channels)
    inputs = keras.Input(shape)
    x = inputs if channels else L.Reshape((*SIZE, 1))(inputs)
    model = randomised(keras.Model(inputs, L.Flatten()(L.Conv2D(2, 3, name="conv")(x))))
    pictures = np.random.default_rng(0).random((4, *shape)).astype("float32")
    assert top_activations(model, pictures, "conv").draw().shape[-1] == 3


def test_repr():
    assert repr(top_activations(network(), images(4), "end")) == "TopActivations('end', 7 filters, 4 pictures)"


# ------------------------------------------------------------------------------------------------------------ the best


def sorted_list(values, top):
    """The positions of the largest values, the first of equal ones first, by sorting all."""
    good = [(-value, position) for position, value in enumerate(values) if value > -np.inf]
    return [position for _, position in sorted(good)[:top]]


numbers = st.one_of(st.integers(-2, 2).map(float), st.sampled_from([np.nan, np.inf, -np.inf]))


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers), max_size=30), st.integers(1, 5), st.integers(1, 7))
def test_best_is_the_head_of_the_sorted_list(rows, top, batch):
    values = np.array(rows, float).reshape(-1, 2)
    best = Best(2, top)
    for start in range(0, len(values), batch):
        part = values[start : start + batch]
        best.offer(part, lambda row, stream, start=start: (start + row, stream))
    for stream in range(2):
        expected = sorted_list(values[:, stream], top)
        assert best.kept[stream] == [(values[at, stream], (at, stream)) for at in expected]


def test_nothing_is_made_that_is_not_kept():
    made = []
    best = Best(1, 2)
    best.offer(np.array([[5.0], [4.0], [3.0], [6.0]]), lambda row, stream: made.append(row))
    best.offer(np.array([[5.0], [1.0]]), lambda row, stream: made.append(10 + row))
    assert sorted(made) == [0, 3]
