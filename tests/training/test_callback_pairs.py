"""Embedding networks under the callback: pairs, references that follow the weights, galleries, siamese models."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from reid_models import CAMERAS, IDENTITIES, N, embedding_model, layers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_gradcam import (
    Distance,
    Explainer,
    GuidedGradCAMCallback,
    Output,
    SelfSimilarity,
    Similarity,
    Triplet,
    explain,
)
from keras_gradcam.metrics.regions import mass_inside
from keras_gradcam.reid import Gallery, rank


@pytest.fixture
def pictures():
    return np.random.default_rng(0).random((N, 20, 12, 3), dtype=np.float32)


def fit(pictures, callback, epochs=3, model=None):
    model = embedding_model() if model is None else model
    callbacks = [callback] if callback is not None else []
    model.fit(pictures, IDENTITIES, epochs=epochs, batch_size=8, verbose=0, callbacks=callbacks)
    return model


def events(log_dir):
    accumulator = EventAccumulator(str(Path(log_dir) / "gradcam"), size_guidance={"tensors": 0})
    accumulator.Reload()
    return {tag: accumulator.Tensors(tag) for tag in accumulator.Tags()["tensors"]}


def values(found, tag):
    return [float(tf.make_ndarray(event.tensor_proto)) for event in found[tag]]


def cosine(one, other):
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_both_pictures_of_a_pair_are_explained_with_the_weights_of_the_moment(pictures, tmp_path):
    callback = GuidedGradCAMCallback((pictures[:8], IDENTITIES[:8]), tmp_path, target=Similarity(), on_error="raise")
    model = fit(pictures, callback)
    partners = pictures[[1, 2, 3, 0, 5, 6, 7, 4]]
    expected = explain(model, pictures[:8], target=Similarity(partners))
    of_partners = explain(model, partners, target=Similarity(pictures[:8]))
    history = callback.history
    np.testing.assert_allclose(history.numbers["score"][-1], expected.scores, rtol=1e-5)
    np.testing.assert_allclose(history.maps[-1], expected.gradcam, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(history.partner_maps[-1], of_partners.gradcam, rtol=2e-3, atol=1e-6)
    assert not np.allclose(history.maps[0], history.maps[-1], rtol=1e-2)
    embeddings = model.predict(pictures[:8], verbose=0)
    positive, negative = [], []
    for i in range(8):
        for j in range(8):
            if i != j:
                same = IDENTITIES[i] == IDENTITIES[j]
                (positive if same else negative).append(cosine(embeddings[i], embeddings[j]))
    totals = history.totals
    assert totals["similarity_positive"][-1] == pytest.approx(np.mean(positive), abs=1e-5)
    assert totals["similarity_negative"][-1] == pytest.approx(np.mean(negative), abs=1e-5)
    assert totals["similarity_gap"][-1] == pytest.approx(np.mean(positive) - np.mean(negative), abs=1e-5)


def test_pairs_are_chosen_from_all_pictures_given_with_their_regions(pictures, tmp_path):
    order = np.random.default_rng(1).permutation(N)
    boxes = [(0, 0, 12, 1 + number % 19) for number in range(N)]
    callback = GuidedGradCAMCallback(
        (pictures[order], IDENTITIES[order]),
        tmp_path,
        target=Similarity(),
        regions=boxes,
        methods="gradcam",
        max_probes=8,
    )
    model = fit(pictures, callback, epochs=1)
    labels, taken = IDENTITIES[order], callback._probe.places
    assert len(taken) == 8
    assert min(np.bincount(labels[taken])[labels[taken]]) > 1
    later = [[*taken[number + 1 :], *taken[:number]] for number in range(8)]
    partners = [next(p for p in after if labels[p] == labels[place]) for place, after in zip(taken, later, strict=True)]
    expected = explain(model, pictures[order][taken], target=Similarity(pictures[order][partners]), methods="gradcam")
    history = callback.history
    np.testing.assert_allclose(history.numbers["score"][-1], expected.scores, rtol=1e-5)
    inside = [mass_inside(one, boxes[place], (20, 12)) for one, place in zip(expected.gradcam, taken, strict=True)]
    np.testing.assert_allclose(history.numbers["mass_inside"][-1], inside, rtol=1e-3, atol=1e-6)


def test_pairs_are_logged_as_pictures_scalars_and_for_the_tab(pictures, tmp_path):
    callback = GuidedGradCAMCallback(
        (pictures[:4], IDENTITIES[:4] * 0), tmp_path, target=Similarity(), save_dir=tmp_path / "s"
    )
    fit(pictures, callback, epochs=2)
    found = events(tmp_path)
    history = callback.history
    for tag in ("gradcam_pairs/similarity_positive", "gradcam_tab/partner_maps", "gradcam/probe_03"):
        assert [event.step for event in found[tag]] == [0, 1]
    assert "gradcam_pairs/similarity_gap" not in found  # one identity: there are no negatives
    np.testing.assert_allclose(
        values(found, "gradcam_pairs/similarity_positive"), history.totals["similarity_positive"], rtol=1e-6
    )
    stored = [tf.make_ndarray(event.tensor_proto) for event in found["gradcam_tab/partner_maps"]]
    np.testing.assert_array_equal(np.stack(stored), history.partner_maps)
    info = json.loads(tf.make_ndarray(found["gradcam_tab/run"][0].tensor_proto).item())
    assert info["pairs"] is True
    assert info["target"] == "Similarity to the partner"
    own, partners = (tf.make_ndarray(found[f"gradcam_tab/{name}"][0].tensor_proto) for name in ("pictures", "partners"))
    assert partners.tolist() == own[[1, 2, 3, 0]].tolist()
    with np.load(tmp_path / "s" / "run.npz") as saved:
        np.testing.assert_array_equal(saved["partner_maps"], history.partner_maps)
        np.testing.assert_array_equal(saved["similarity_positive"], history.totals["similarity_positive"])


def test_references_are_embedded_anew_without_tracing_again(pictures, tmp_path, monkeypatch):
    traces = []
    wrapped = tf.compat.v1.wrap_function

    def counted(*arguments, **options):
        traces.append(1)
        return wrapped(*arguments, **options)

    monkeypatch.setattr(tf.compat.v1, "wrap_function", counted)
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]),
        tmp_path,
        target=Similarity(),
        gallery=Gallery((pictures, IDENTITIES, CAMERAS), query=(pictures[:4], IDENTITIES[:4], CAMERAS[:4])),
        on_error="raise",
    )
    fit(pictures, callback, epochs=6)
    assert len(traces) == 3  # embedding, explaining, and the network cut in two for the ranked lists
    scores = callback.history.numbers["score"]
    assert (np.abs(np.diff(scores, axis=0)).max(axis=1) > 1e-4).all()


def test_training_does_not_notice(pictures, tmp_path):
    plain = fit(pictures, None)
    callback = GuidedGradCAMCallback(
        (pictures[:8] * 0.9, IDENTITIES[:8]),
        tmp_path,
        target=Similarity(),
        gallery=(pictures, IDENTITIES),
        on_error="raise",
    )
    watched = fit(pictures, callback)
    for one, other in zip(plain.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_gallery_is_ranked_every_few_epochs_and_at_the_end(pictures, tmp_path):
    query = (pictures[::3], IDENTITIES[::3], CAMERAS[::3])
    gallery = (pictures, IDENTITIES, CAMERAS)
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]),
        tmp_path,
        target=Similarity(),
        gallery=Gallery(gallery, query=query, every=2, top=3, shown=2),
        save_dir=tmp_path / "s",
        on_error="raise",
    )
    model = embedding_model()
    history = model.fit(pictures, IDENTITIES, epochs=5, batch_size=8, verbose=0, callbacks=[callback]).history
    expected = rank(query, gallery, model, top=3, progress=False)
    found = events(tmp_path)
    assert [event.step for event in found["gradcam_retrieval/mean_ap"]] == [1, 3, 4]
    # Of two identities: queries 0 and 1 are of one.
    assert [event.step for event in found["gradcam_ranking/query_02"]] == [1, 3, 4]
    assert "gradcam_ranking/query_01" not in found
    assert values(found, "gradcam_retrieval/mean_ap")[-1] == pytest.approx(expected.mean_ap)
    assert values(found, "gradcam_retrieval/rank_5")[-1] == pytest.approx(expected.cmc[4])
    assert len(history["gradcam_mean_ap"]) == 3
    assert history["gradcam_rank_1"][-1] == pytest.approx(expected.cmc[0])
    assert np.isnan(callback.history.totals["mean_ap"]).tolist() == [True, False, True, False, False]
    assert "| mean ap |" in callback.report()
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert "ranking.png" in manifest["files"]


def test_queries_without_a_right_match_are_told_of_once_in_a_training(pictures, tmp_path):
    gallery = Gallery((pictures[14:], IDENTITIES[14:]), query=(pictures[10:14], IDENTITIES[10:14]))
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]), tmp_path, target=Similarity(), methods="gradcam", gallery=gallery
    )
    with pytest.warns(UserWarning, match="no right match") as caught:
        fit(pictures, callback, epochs=3)
    told = [str(one.message) for one in caught if "no right match" in str(one.message)]
    assert told == ["2 of 4 queries have no right match in the gallery; CMC and mAP leave them out."]
    assert len(callback.history.totals["mean_ap"]) == 3


def test_the_probe_is_the_query_where_none_is_given(pictures, tmp_path):
    callback = GuidedGradCAMCallback(
        (pictures[:6] * 0.9, np.arange(6) % 2),
        tmp_path,
        target=Similarity(),
        gallery=(pictures, IDENTITIES % 2),
    )
    model = fit(pictures, callback, epochs=1)
    expected = rank((pictures[:6] * 0.9, np.arange(6) % 2), (pictures, IDENTITIES % 2), model, progress=False)
    assert callback.history.totals["mean_ap"][0] == pytest.approx(expected.mean_ap)


def test_queries_in_the_gallery_are_warned_of(pictures, tmp_path):
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]), tmp_path, target=Similarity(), gallery=(pictures, IDENTITIES)
    )
    with pytest.warns(UserWarning, match="8 pictures of the gallery are queries too"):
        fit(pictures, callback, epochs=1)


def test_a_gallery_that_cannot_be_read_does_not_cost_the_maps(pictures, tmp_path):
    reads = []

    def entries():
        reads.append(1)
        for picture, identity in zip(pictures, IDENTITIES, strict=True):
            yield picture, identity
            if len(reads) > 2:
                raise OSError("gone")

    spec = (tf.TensorSpec((20, 12, 3), tf.float32), tf.TensorSpec((), tf.int64))
    gallery = Gallery(tf.data.Dataset.from_generator(entries, output_signature=spec))
    callback = GuidedGradCAMCallback(
        (pictures[:8] * 0.9, IDENTITIES[:8]), tmp_path, target=Similarity(), gallery=gallery
    )
    with pytest.warns(RuntimeWarning, match="could not log and training goes on"):
        fit(pictures, callback, epochs=2)
    assert callback.history.epochs.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": Similarity(), "probe": "pictures"}, "`probe` must have identities"),
        ({"target": Similarity(np.zeros((8, 20, 12, 1)))}, "shape that the model takes"),
        ({"target": Similarity(np.ones((8, 4)))}, "as long as the model's, 5"),
        ({"target": None}, "L2-normalised: an embedding"),
        ({"gallery": (np.zeros((4, 20, 12, 3)), np.arange(4), np.arange(4))}, "cameras of the gallery alone"),
        ({"gallery": (np.ones((4, 5)), np.arange(4))}, "must hold pictures"),
        ({"gallery": (np.zeros((4, 20, 12, 3)), np.arange(3))}, "one identity and one camera per picture"),
        ({"gallery": np.zeros((4, 20, 12, 3))}, "`gallery` must be"),
        ({"branch": "backbone"}, "`branch` must name one model"),
        (
            {"target": SelfSimilarity(), "probe": "pictures", "gallery": (np.zeros((4, 20, 12, 3)), np.arange(4))},
            r"`gallery` must come with queries.*Candidates: Gallery\(\.\.\., query=",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_training(pictures, tmp_path, options, message):
    options = {"target": Similarity(), **options}
    probe = pictures[:8] if options.pop("probe", None) else (pictures[:8], IDENTITIES[:8])
    model = embedding_model()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        fit(pictures, GuidedGradCAMCallback(probe, tmp_path, **options), model=model)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "target",
    [SelfSimilarity(), Triplet(np.ones(5), -np.ones(5)), Similarity(np.ones(5))],
    ids=["self", "triplet", "one for all"],
)
def test_other_targets_of_embeddings_are_logged_without_pairs(pictures, tmp_path, target):
    callback = GuidedGradCAMCallback(
        (pictures[:4], IDENTITIES[:4] + 100), tmp_path, target=target, class_names={100: "Ann"}, on_error="raise"
    )
    model = fit(pictures, callback, epochs=1)
    np.testing.assert_allclose(
        callback.history.numbers["score"][-1], explain(model, pictures[:4], target=target).scores, rtol=1e-5
    )
    assert np.isnan(callback.history.numbers["predicted"]).all()
    assert callback.history.partner_maps is None
    assert "Ann" in callback.report()


# --- siamese models -------------------------------------------------------------------------------------------------


def siamese():
    keras.utils.set_random_seed(5)
    backbone = keras.Sequential([keras.Input((20, 12, 3)), *layers()], name="backbone")
    left, right = keras.Input((20, 12, 3), name="left"), keras.Input((20, 12, 3), name="right")
    apart = keras.layers.Subtract()([backbone(left), backbone(right)])
    model = keras.Model([left, right], keras.layers.Dense(1, activation="sigmoid")(keras.ops.square(apart)))
    model.compile("adam", "binary_crossentropy")
    return model, backbone


def fit_siamese(model, pictures, callback):
    left, right = pictures[:12], pictures[12:]
    model.fit([left, right], np.arange(12) % 2, epochs=2, batch_size=4, verbose=0, callbacks=[callback])


@pytest.mark.parametrize("call", [0, 1])
def test_each_call_of_a_shared_network_explains_its_own_picture(pictures, tmp_path, call):
    model, _ = siamese()
    left, right = pictures[:4], pictures[12:16]
    callback = GuidedGradCAMCallback([left, right], tmp_path, target=1, layer="last", layer_call=call, on_error="raise")
    fit_siamese(model, pictures, callback)
    expected = Explainer(model, layer="last", target=1, input_index=call)([left, right])
    np.testing.assert_allclose(callback.history.maps[-1], expected.gradcam, rtol=2e-3, atol=1e-6)
    found = events(tmp_path)
    stored = tf.make_ndarray(found["gradcam_tab/pictures"][0].tensor_proto)
    for png, picture in zip(stored, (left, right)[call], strict=True):
        shown = tf.io.decode_png(png).numpy().astype(np.float32) / 255
        np.testing.assert_allclose(shown, picture, atol=0.01)


def test_the_map_of_one_picture_is_not_taken_from_the_other(pictures):
    """By default the first picture is explained; the last call of the shared network sees the second."""
    model, backbone = siamese()
    left, right = pictures[:3], pictures[3:6]
    result = explain(model, [left, right], target=1)
    head, features = model.layers[-1], left
    for layer in backbone.layers[:3]:
        features = layer(features)
    with tf.GradientTape() as tape:
        tape.watch(features)
        tail = features
        for layer in backbone.layers[3:]:
            tail = layer(tail)
        z = tf.square(tail - backbone(right)) @ head.kernel + head.bias
    weights = tf.reduce_mean(tape.gradient(z, features), axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(result.gradcam, tf.nn.relu(tf.reduce_sum(weights * features, -1)), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("by", ["name", "model"])
def test_the_shared_network_alone_is_watched_by_naming_the_branch(pictures, tmp_path, by):
    model, backbone = siamese()
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]),
        tmp_path,
        branch="backbone" if by == "name" else backbone,
        target=Similarity(),
        on_error="raise",
    )
    fit_siamese(model, pictures, callback)
    expected = explain(backbone, pictures[:8], target=Similarity(pictures[[1, 2, 3, 0, 5, 6, 7, 4]]))
    np.testing.assert_allclose(callback.history.maps[-1], expected.gradcam, rtol=2e-3, atol=1e-6)


def test_the_embedding_within_a_classifier_is_watched_as_a_model_of_its_layers(pictures, tmp_path):
    classifier = keras.Sequential([keras.Input((20, 12, 3)), *layers(), keras.layers.Dense(6, activation="softmax")])
    classifier.compile("adam", "sparse_categorical_crossentropy")
    within = keras.Model(classifier.inputs, classifier.layers[-2].output)
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]), tmp_path, branch=within, target=Similarity(), on_error="raise"
    )
    classifier.fit(pictures, IDENTITIES, epochs=2, verbose=0, callbacks=[callback])
    expected = explain(within, pictures[:8], target=Similarity(pictures[[1, 2, 3, 0, 5, 6, 7, 4]]))
    np.testing.assert_allclose(callback.history.maps[-1], expected.gradcam, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(callback.history.numbers["score"][-1], expected.scores, rtol=1e-4)


def test_one_output_of_several_can_be_the_embedding(pictures, tmp_path):
    inputs = keras.Input((20, 12, 3))
    embedding = inputs
    for layer in layers():
        embedding = layer(embedding)
    classes = keras.layers.Dense(6, activation="softmax", name="who")(embedding)
    model = keras.Model(inputs, {"who": classes, "embedding": keras.layers.Identity(name="embedding")(embedding)})
    model.compile("adam", {"who": "sparse_categorical_crossentropy"})
    callback = GuidedGradCAMCallback(
        (pictures[:8] * 0.9, IDENTITIES[:8]),
        tmp_path,
        target=Output("embedding", Distance()),
        gallery=(pictures, IDENTITIES),
        on_error="raise",
    )
    model.fit(pictures, {"who": IDENTITIES}, epochs=1, verbose=0, callbacks=[callback])
    partners = 0.9 * pictures[[1, 2, 3, 0, 5, 6, 7, 4]]
    f, g = (model.predict(x, verbose=0)["embedding"] for x in (0.9 * pictures[:8], partners))
    np.testing.assert_allclose(callback.history.numbers["score"][-1], -np.linalg.norm(f - g, axis=1), rtol=1e-4)
    assert callback.history.totals["mean_ap"][0] > 0
