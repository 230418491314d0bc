"""What is measured at every epoch: maps, predictions, pairs, rankings and filters; all of it inside real trainings."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from backends import numbers
from reid_models import CAMERAS, IDENTITIES, N, embedding_model, layers
from tensorboard.util.tensor_util import make_ndarray
from trainings import decoded, events, fit, scalar, small_model

from keras_gradcam import (
    Distance,
    Explainer,
    GuidedGradCAMCallback,
    Output,
    Probe,
    SelfSimilarity,
    Similarity,
    Triplet,
    Unit,
    explain,
)
from keras_gradcam.engine import current_engine
from keras_gradcam.metrics.regions import mass_inside
from keras_gradcam.reid import Gallery, rank
from keras_gradcam.training.captions import Captions


def fit_embedding(pictures, callback, epochs=3, model=None):
    model = embedding_model() if model is None else model
    model.fit(pictures, IDENTITIES, epochs=epochs, batch_size=8, verbose=0, callbacks=[callback])
    return model


def values(found, tag):
    return [scalar(event) for event in found[tag]]


def cosine(one, other):
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


# --- one map, one prediction ------------------------------------------------------------------------------------------


def test_a_regression_is_watched_as_the_value_that_it_predicts(data, tmp_path):
    pictures = data[0]
    wanted = np.where(np.arange(len(pictures)) % 2, 0.3, -0.4).astype("float32")
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input(pictures.shape[1:]),
            keras.layers.Conv2D(6, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    default, unit = (
        GuidedGradCAMCallback(Probe(pictures, limit=4), tmp_path / name, target=target, logs={f"{name}score": "score"})
        for name, target in (("default", None), ("unit", Unit(0)))
    )
    fit(model, (pictures, wanted), [default, unit], epochs=3)
    for name, expected in unit.history.numbers.items():
        np.testing.assert_array_equal(default.history.numbers[name], expected, name)
    np.testing.assert_array_equal(default.history.maps, unit.history.maps)
    np.testing.assert_allclose(
        default.history.numbers["score"][-1], numbers(model(pictures[:4]))[:, 0], rtol=1e-5, atol=1e-6
    )
    assert np.isnan(default.history.numbers["predicted"]).all()
    assert "no classes" in default.report()
    info = default._frames.run.info
    assert info.explained.quantity == ("value", 1.0)
    caption = Captions(info).panel(default._recorder.records[-1], 0, None)
    assert any(line.startswith("value ") for line in caption)
    assert "explained: the predicted value" in caption
    # Known by their loss, units stand for classes.
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    classes = GuidedGradCAMCallback(Probe(pictures, limit=4), tmp_path / "classes", methods="gradcam")
    fit(model, (pictures, wanted > 0), classes, epochs=1)
    predicted = (numbers(model(pictures[:4]))[:, 0] >= 0).astype(float)
    np.testing.assert_array_equal(classes.history.numbers["predicted"][-1], predicted)


def test_a_model_that_is_not_finite_predicts_nothing(data, tmp_path):
    model = small_model()
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * np.nan, bias])
    callback = GuidedGradCAMCallback(Probe(data, limit=2), tmp_path)
    with pytest.warns(RuntimeWarning, match="not finite"):
        fit(model, data, callback, epochs=1)
    assert np.isnan(callback.history.numbers["predicted"]).all()
    assert "no classes" in callback.report()
    record, captions = callback._recorder.records[0], Captions(callback._frames.run.info)
    assert captions.prediction(record, 0) == ""
    assert not captions.is_wrong(record, 0)


def test_any_method_can_be_watched_and_the_first_map_on_the_grid_is_measured(data, tmp_path):
    methods = ["saliency", "layercam", "gradcam", "smoothgrad"]
    callback = GuidedGradCAMCallback(Probe(data, limit=2), tmp_path, methods=methods, on_error="raise")
    model = small_model()
    fit(model, data, callback, epochs=2)
    expected = Explainer(model, methods=methods)(data[0][:2], target=data[1][:2])
    np.testing.assert_allclose(callback.history.maps[-1], expected.maps["layercam"], rtol=2e-3, atol=1e-6)
    drawn = decoded(events(tmp_path)["gradcam/probe_00"][-1])
    # The picture, LayerCAM, Grad-CAM, and both gradients: five cells.
    alone = decoded(events(tmp_path)["gradcam/probe_01"][-1])
    assert drawn.shape[1] == alone.shape[1] == 5 * (12 * 16 + 6) - 6 + 16


def test_without_gradcam_there_is_no_drift(data, tmp_path):
    callback = GuidedGradCAMCallback(Probe(data, limit=1), tmp_path, methods=["guided_backprop"])
    fit(small_model(), data, callback)
    assert callback.history.maps is None
    tags = set(events(tmp_path))
    assert not {tag for tag in tags if "similarity" in tag or "filmstrip" in tag or tag == "gradcam_tab/maps"}
    assert "gradcam_tab/guided" in tags
    assert "no map" in callback.report() or "unknown" in callback.report()


def test_filters_are_logged_when_asked_for(data, tmp_path):
    from keras_gradcam.filters.kernels import Filters, filter_kernels
    from keras_gradcam.filters.top_activations import top_activations

    filters = Filters(images=data[0], every=2, count=3, top=2)
    callback = GuidedGradCAMCallback(
        Probe(data, limit=2), tmp_path, methods="gradcam", filters=filters, on_error="raise"
    )
    model = small_model()
    fit(model, data, callback, epochs=5)
    found = events(tmp_path)
    assert [event.step for event in found["gradcam_filters/kernels"]] == [1, 3, 4]
    assert [event.step for event in found["gradcam_filters/top"]] == [4]
    assert {"gradcam_start_filters/kernels", "gradcam_start_filters/top"} <= set(found)
    kernels = filter_kernels(model, sort=None)
    np.testing.assert_array_equal(decoded(found["gradcam_filters/kernels"][-1]), kernels.draw("common"))
    strongest = sorted(np.argsort(-kernels.norms, kind="stable")[:3].tolist())
    expected = top_activations(model, data[0], kernels.layer, strongest, 2).draw()
    np.testing.assert_array_equal(decoded(found["gradcam_filters/top"][0]), expected)


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_both_pictures_of_a_pair_are_explained_with_the_weights_of_the_moment(pictures, tmp_path):
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]), tmp_path, methods="gradcam", target=Similarity(), on_error="raise"
    )
    model = fit_embedding(pictures, callback)
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
        Probe((pictures[order], IDENTITIES[order]), limit=8, regions=boxes),
        tmp_path,
        target=Similarity(),
        methods="gradcam",
    )
    model = fit_embedding(pictures, callback, epochs=1)
    labels, taken = IDENTITIES[order], callback._samples.indices
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
    fit_embedding(pictures, callback, epochs=2)
    found = events(tmp_path)
    history = callback.history
    for tag in ("gradcam_pairs/similarity_positive", "gradcam_tab/partner_maps", "gradcam/probe_03"):
        assert [event.step for event in found[tag]] == [0, 1]
    assert "gradcam_pairs/similarity_gap" not in found  # one identity: there are no negatives
    np.testing.assert_allclose(
        values(found, "gradcam_pairs/similarity_positive"), history.totals["similarity_positive"], rtol=1e-6
    )
    stored = [make_ndarray(event.tensor_proto) for event in found["gradcam_tab/partner_maps"]]
    np.testing.assert_array_equal(np.stack(stored), history.partner_maps)
    info = json.loads(make_ndarray(found["gradcam_tab/run"][0].tensor_proto).item())
    assert info["pairs"] is True
    assert info["target"] == "Similarity to the partner"
    own, partners = (make_ndarray(found[f"gradcam_tab/{name}"][0].tensor_proto) for name in ("pictures", "partners"))
    assert partners.tolist() == own[[1, 2, 3, 0]].tolist()
    with np.load(tmp_path / "s" / "run.npz") as saved:
        np.testing.assert_array_equal(saved["partner_maps"], history.partner_maps)
        np.testing.assert_array_equal(saved["similarity_positive"], history.totals["similarity_positive"])


@pytest.mark.filterwarnings("ignore:A picture is compared with its own")  # this network may lose its differences
def test_references_are_embedded_anew_without_tracing_again(pictures, tmp_path, monkeypatch):
    traces = []
    engine = type(current_engine())

    def counted(method):
        return lambda *arguments: traces.append(1) or method(*arguments)

    for name in ("trace", "split"):
        monkeypatch.setattr(engine, name, counted(getattr(engine, name)))
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]),
        tmp_path,
        methods="gradcam",
        target=Similarity(),
        gallery=Gallery((pictures, IDENTITIES, CAMERAS), query=(pictures[:4], IDENTITIES[:4], CAMERAS[:4])),
        on_error="raise",
    )
    fit_embedding(pictures, callback, epochs=6)
    assert len(traces) == 3  # embedding, explaining, and the network cut in two for the ranked lists
    scores = callback.history.numbers["score"]
    assert (np.abs(np.diff(scores, axis=0)).max(axis=1) > 1e-4).all()


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
        methods="gradcam",
        target=Output("embedding", Distance()),
        gallery=(pictures, IDENTITIES),
        on_error="raise",
    )
    model.fit(pictures, {"who": IDENTITIES}, epochs=1, verbose=0, callbacks=[callback])
    partners = 0.9 * pictures[[1, 2, 3, 0, 5, 6, 7, 4]]
    f, g = (model.predict(x, verbose=0)["embedding"] for x in (0.9 * pictures[:8], partners))
    np.testing.assert_allclose(callback.history.numbers["score"][-1], -np.linalg.norm(f - g, axis=1), rtol=1e-4)
    assert callback.history.totals["mean_ap"][0] > 0


@pytest.mark.parametrize(
    "target",
    [SelfSimilarity(), Triplet(np.ones(5), -np.ones(5)), Similarity(np.ones(5))],
    ids=["self", "triplet", "one for all"],
)
def test_other_targets_of_embeddings_are_logged_without_pairs(pictures, tmp_path, target):
    callback = GuidedGradCAMCallback(
        (pictures[:4], IDENTITIES[:4] + 100),
        tmp_path,
        methods="gradcam",
        target=target,
        class_names={100: "Ann"},
        on_error="raise",
    )
    model = fit_embedding(pictures, callback, epochs=1)
    np.testing.assert_allclose(
        callback.history.numbers["score"][-1], explain(model, pictures[:4], target=target).scores, rtol=1e-5
    )
    assert np.isnan(callback.history.numbers["predicted"]).all()
    assert callback.history.partner_maps is None
    assert "Ann" in callback.report()


# --- galleries --------------------------------------------------------------------------------------------------------


def test_a_gallery_is_ranked_every_few_epochs_and_at_the_end(pictures, tmp_path):
    query = (pictures[::3], IDENTITIES[::3], CAMERAS[::3])
    gallery = (pictures, IDENTITIES, CAMERAS)
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]),
        tmp_path,
        methods="gradcam",
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
        fit_embedding(pictures, callback, epochs=3)
    told = [str(one.message) for one in caught if "no right match" in str(one.message)]
    assert told == ["2 of 4 queries have no right match in the gallery; CMC and mAP leave them out."]
    assert len(callback.history.totals["mean_ap"]) == 3


def test_the_probe_is_the_query_where_none_is_given(pictures, tmp_path):
    callback = GuidedGradCAMCallback(
        (pictures[:6] * 0.9, np.arange(6) % 2),
        tmp_path,
        methods="gradcam",
        target=Similarity(),
        gallery=(pictures, IDENTITIES % 2),
    )
    model = fit_embedding(pictures, callback, epochs=1)
    expected = rank((pictures[:6] * 0.9, np.arange(6) % 2), (pictures, IDENTITIES % 2), model, progress=False)
    assert callback.history.totals["mean_ap"][0] == pytest.approx(expected.mean_ap)


def test_queries_in_the_gallery_are_warned_of(pictures, tmp_path):
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]), tmp_path, methods="gradcam", target=Similarity(), gallery=(pictures, IDENTITIES)
    )
    with pytest.warns(UserWarning, match="8 pictures of the gallery are queries too"):
        fit_embedding(pictures, callback, epochs=1)


def test_a_gallery_that_cannot_be_read_does_not_cost_the_maps(pictures, tmp_path):
    reads = []

    def entries():
        reads.append(1)
        for picture, identity in zip(pictures, IDENTITIES, strict=True):
            yield picture, identity
            if len(reads) > 2:
                raise OSError("gone")

    class Entries:
        __iter__ = staticmethod(entries)

    gallery = Gallery(Entries())
    callback = GuidedGradCAMCallback(
        (pictures[:8] * 0.9, IDENTITIES[:8]), tmp_path, methods="gradcam", target=Similarity(), gallery=gallery
    )
    with pytest.warns(RuntimeWarning, match="could not log and training goes on"):
        fit_embedding(pictures, callback, epochs=2)
    assert callback.history.epochs.tolist() == [0, 1]


# --- what goes wrong --------------------------------------------------------------------------------------------------


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
        fit_embedding(pictures, GuidedGradCAMCallback(probe, tmp_path, **options), model=model)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "regions",
    [
        [(0, 0, 4, 4)],
        [(0.1, 0.0, 0.5, 1.0)] * 24,
        [(4, 4, 0, 0)] * 24,
        [np.ones((3, 3))] * 24,
        [(20, 0, 30, 4)] * 24,
    ],
    ids=["too few", "fractions", "reversed", "mask of another size", "outside"],
)
def test_regions_that_fit_no_probe_are_refused(data, tmp_path, regions):
    with pytest.raises(ValueError, match="`regions`"):
        fit(small_model(), data, GuidedGradCAMCallback(Probe(data, regions=regions), tmp_path))


def test_a_layer_without_kernels_is_refused_before_training(data, tmp_path):
    from keras_gradcam.filters.kernels import Filters

    with pytest.raises(ValueError, match="`layer` must name one Conv2D"):
        fit(small_model(), data, GuidedGradCAMCallback(data, tmp_path, filters=Filters("dense")))
