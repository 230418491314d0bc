"""Every option of the public constructors and functions with values of wrong types and ranges."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import os
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from robustness.outcomes import Outcomes

import keras_gradcam as kg
from keras_gradcam import datasets, filters, metrics, reid

#: Name to value; each takes the place of one good argument.
WRONG: dict[str, Any] = {
    "None": None,
    "True": True,
    "0": 0,
    "-1": -1,
    "5": 5,
    "2.5": 2.5,
    "nan": math.nan,
    "inf": math.inf,
    "''": "",
    "'jet'": "jet",
    "'no such thing'": "no such thing",
    "b'bytes'": b"bytes",
    "()": (),
    "[1]": [1],
    "['a']": ["a"],
    "[[1, 2], [3]]": [[1, 2], [3]],
    "{}": {},
    "{'x': 'y'}": {"x": "y"},
    "object()": object(),
    "int": int,
    "lambda: 0": lambda: 0,
    "zeros(3)": np.zeros(3),
    "array('text')": np.array("text"),
    "zeros((4, 0, 8, 3))": np.zeros((4, 0, 8, 3)),
    "nan maps": np.full((4, 6, 6), np.nan),
}


class Case(NamedTuple):
    """Something public with good arguments, and what is done with its result."""

    name: str
    call: Callable[..., Any]
    good: dict[str, Any]


class _FirstBatch(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.came = False

    def on_train_batch_begin(self, batch, logs=None):
        self.came = True


def case(name, call, /, **good):
    return Case(name, call, good)


def _network(classes=True):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
    ]
    if classes:
        layers.append(keras.layers.Softmax())
    model = keras.Sequential(layers)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def cases() -> list[Case]:
    """Everything public that takes options."""
    model, embedding = _network(), _network(classes=False)
    images = np.random.default_rng(0).random((4, 8, 8, 3)).astype("float32")
    labels = np.array([0, 1, 0, 1])
    explainer = kg.Explainer(model, methods=["gradcam"])
    explanation = explainer(images)
    maps = np.abs(explanation.maps["gradcam"])
    box = [(1, 1, 5, 5)] * 4
    ranking = reid.rank((images, labels), (images, labels), embedding, explain=1, progress=False)
    similarity = reid.similarity_maps(embedding, images[:1], images[1:2])

    def explained(**options):
        return kg.Explainer(model, **options)(images)

    def probed(data=(images, labels), **options):
        return trained(probe=kg.Probe(data, **options))

    def styled(**options):
        return trained(style=kg.Style(**options))

    def trained(probe=(images, labels), log_dir=None, **options):
        first = _FirstBatch()
        with tempfile.TemporaryDirectory() as folder:
            try:
                where = folder if log_dir is None else log_dir
                callback = kg.GuidedGradCAMCallback(probe, where, **options)
                model.fit(images, labels, epochs=1, verbose=0, callbacks=[callback, first])
            except kg.ArgumentError as error:
                if first.came:
                    raise AssertionError("refused after the first batch") from error
                raise

    def with_target(make, **options):
        return kg.Explainer(model, target=make(**options), methods=["gradcam"])(images)

    def with_embeddings(make, **options):
        return kg.Explainer(embedding, target=make(**options), methods=["gradcam"])(images)

    def with_method(make, **options):
        return explained(methods=[make(**options)])

    def searched(**options):
        return trained(filters=filters.Filters(**options))

    def ranked(**options):
        return trained(gallery=reid.Gallery(**options))

    def batch_explained(**options):
        return datasets.ExplainBatch(**options)({"image": images, "id": list("abcd"), "label": labels})

    def read_back(path="rows", pictures=None, query="unsure", limit=2, column="score", descending=False, columns=None):
        datasets.explain_dataset(
            {"image": images, "id": list("abcd")}, model, "rows", preprocess="none", progress=False
        )
        results = datasets.open_results(path, pictures)
        results.table(columns)
        return results.find(query, limit), results.sort(column, descending, limit)

    def folder_read(**options):
        os.makedirs("people", exist_ok=True)
        for number in range(2):
            keras.utils.save_img(f"people/{number}_c{number}.png", images[number])
        return reid.read_folder(**options)

    probe, scored = (images, labels), {"explainer": explainer, "images": images, "maps": maps, "target": 0}
    located = {"maps": maps, "regions": box, "input_size": (8, 8), "spans": None}
    selectors = {"image": None, "label": None}
    return [
        case(
            "GuidedGradCAMCallback", trained, probe=probe, log_dir="logs", explainer=None, layer="conv", target=None,
            methods=["gradcam"], gallery=None, filters=False, class_names=["a", "b", "c"], every=1, style=None,
            save_dir=None, writers=(), logs="auto", on_error="warn",
        ),
        case("Probe", probed, data=probe, limit=4, regions=box, display_images=images, **selectors),
        case("Style", styled, colormap="inferno", scale="run", images="panels", scalars="probes"),
        case(
            "Explainer", explained, layer="conv", target=None, methods=["gradcam"], batch_size=2, layer_call=None,
            input_index=None,
        ),
        case("explain", kg.explain, model=model, images=images, target=0),
        case("list_layers", kg.list_layers, model=model, images=images),
        case(
            "gradcam", kg.gradcam, conv_activations=np.ones((1, 4, 4, 2)), conv_gradients=np.ones((1, 4, 4, 2)),
            guided_backprop=np.ones((1, 8, 8, 3)),
        ),
        case("Class", partial(with_target, kg.Class), index=0, logits=True),
        case("TopClass", partial(with_target, kg.TopClass), rank=1),
        case("Unit", partial(with_target, kg.Unit), index=0),
        case("Output", partial(with_target, kg.Output), which=0, target=None),
        case("Function", partial(with_target, kg.Function), function=lambda outputs: outputs[:, 0], logits=False),
        case("Similarity", partial(with_embeddings, kg.Similarity), reference=images),
        case("Dot", partial(with_embeddings, kg.Dot), reference=images),
        case("Distance", partial(with_embeddings, kg.Distance), reference=images),
        case("Triplet", partial(with_embeddings, kg.Triplet), positive=images, negative=images[::-1]),
        case("SmoothGrad", partial(with_method, kg.SmoothGrad), noise=0.1, samples=2, seed=0),
        case("IntegratedGradients", partial(with_method, kg.IntegratedGradients), steps=4, baseline=0.0),
        case("Explanation.overlay", explanation.overlay, style=None),
        case("Explanation.save", explanation.save, directory="out", class_names=None, style=None),
        *(
            case(f"metrics.{metric.__name__}", metric, **scored, score="auto")
            for metric in (metrics.average_drop, metrics.increase_in_confidence, metrics.masked_confidence)
        ),
        case("metrics.deletion", metrics.deletion, **scored, score="auto", steps=3, baseline="mean"),
        case("metrics.insertion", metrics.insertion, **scored, score="auto", steps=3, baseline="blur"),
        *(
            case(f"metrics.{metric.__name__}", metric, a=maps, b=maps)
            for metric in (metrics.center_shift, metrics.iou, metrics.rank_correlation, metrics.total_variation)
        ),
        case("metrics.overlap", metrics.overlap, a=maps, b=maps, share=0.2),
        case("metrics.focus", metrics.focus, a=maps),
        case("metrics.center_of_mass", metrics.center_of_mass, a=maps),
        case("metrics.mass", metrics.mass, a=maps),
        case("metrics.localize", metrics.localize, maps=maps, threshold=0.15),
        case("metrics.mass_inside", metrics.mass_inside, **located),
        case("metrics.pointing_game", metrics.pointing_game, **located, tolerance=1),
        case("metrics.mean_of_present", metrics.mean_of_present, values=np.ones(3)),
        case("metrics.region_mask", metrics.region_mask, region=box[0], input_size=(8, 8)),
        case("metrics.settled_epoch", metrics.settled_epoch, maps=maps, tolerance=0.1),
        case(
            "metrics.randomization_check", metrics.randomization_check, model=explainer, images=images,
            method="gradcam", order="cascading", target=0, depth=1, seed=0,
        ),
        case(
            "metrics.trust_report", metrics.trust_report, model=explainer, images=images, target=0, regions=box,
            layer=None, method="gradcam", seed=0,
        ),
        case("filters.Filters", searched, layer="conv", images=images, every=1, count=2, top=2, **selectors),
        case("filters.filter_kernels", filters.filter_kernels, model=model, layer="conv", sort="norm"),
        case("filters.receptive_field", filters.receptive_field, model=model, layer="conv", images=images, gates=True),
        case(
            "filters.top_activations", filters.top_activations, model=model, images=images, layer="conv", filters=[0],
            top=1, batch_size=2, progress=None, **selectors,
        ),
        case("reid.Gallery", ranked, pictures=probe, query=probe, every=1, top=2, shown=1, camera=None, **selectors),
        case(
            "reid.rank", reid.rank, query=probe, gallery=probe, model=embedding, metric="cosine", top=2, explain=1,
            progress=False, camera=None, **selectors,
        ),
        case(
            "reid.read_folder", folder_read, folder="people", model=embedding, pattern=r"(?P<id>\d+)_c(?P<camera>\d+)",
            preprocess="none", size=None,
        ),
        case("reid.NearestIndex", reid.NearestIndex, gallery=images[:, 0, 0], metric="cosine", kind="faiss"),
        case("reid.nearest", reid.nearest, queries=images[:, 0, 0], gallery=images[:, 0, 0], top=2, metric="cosine",
             index="exact"),
        case(
            "datasets.ExplainBatch", batch_explained, model=model, target=None, layer="conv", methods=["gradcam"],
            columns=None, preprocess="none", size=None, value_range=None, embedding=False, batch_size=2,
        ),
        case(
            "datasets.explain_dataset", partial(datasets.explain_dataset, preprocess="none"),
            source={"image": images, "id": list("abcd")}, model=model, out="rows", engine="local", shard=None,
            class_names=None, overwrite=False, progress=False, actors=None,
        ),
        case("datasets.open_results", read_back, path="rows", pictures=None, query="unsure", limit=2, column="score",
             descending=False, columns=None),
        case("reid.similarity_maps", reid.similarity_maps, model=embedding, a=images[:1], b=images[1:2], layer="conv",
             form="exact"),
        case("reid.pair_figure", reid.pair_figure, a=images[:1], b=images[1:2], maps=similarity, count=2, style=None),
        case("reid.rank_figure", reid.rank_figure, lists=ranking.explained, style=None),
        case("History.load", kg.History.load, log_dir="logs"),
    ]  # fmt: skip


def attempts() -> list[tuple[Case, str, str]]:
    """Each case with each of its options and each wrong value."""
    return [(case, option, value) for case in cases() for option, value in itertools.product(case.good, WRONG)]


def attempt(limit=None, seed=0):
    """Calls everything with one wrong option at a time.

    Args:
        limit: So many attempts, chosen at random; all by default.
        seed: Of that choice.
    """
    chosen = attempts()
    if limit is not None:
        order = np.random.default_rng(seed).permutation(len(chosen))[:limit]
        chosen = [chosen[index] for index in sorted(order)]
    outcomes = Outcomes("wrong options")
    for case, option, value in chosen:
        what = f"{case.name}({option}={value})"
        with warnings.catch_warnings(record=True) as caught, _elsewhere():
            warnings.simplefilter("always")
            try:
                case.call(**{**case.good, option: WRONG[value]})
            except kg.ArgumentError as error:
                text = str(error)
                if "Received" in text and len(text) < 2000:
                    outcomes.survived("refused by an error of ours")
                else:
                    outcomes.lost(f"{what}: unhelpful: {text[:200]}")
                continue
            except Exception as error:
                if callable(WRONG[value]):
                    outcomes.survived("stopped by an error of the caller's own function")
                else:
                    outcomes.lost(f"{what}: {type(error).__name__}: {str(error)[:160]}")
                continue
        failed = [str(warning.message) for warning in caught if "could not" in str(warning.message)]
        if failed and callable(WRONG[value]):
            outcomes.survived("stopped by an error of the caller's own function")
        elif failed:
            outcomes.lost(f"{what}: {failed[0][:200]}")
        else:
            outcomes.survived("taken")
    return outcomes


@contextlib.contextmanager
def _elsewhere():
    """Makes a new folder the current one."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def functions_without_case() -> list[str]:
    """Public functions that are not tried."""
    tried = {case.name.split(".")[-1] for case in cases()}
    public = [(package, name) for package in (kg, metrics, filters, reid, datasets) for name in package.__all__]
    return [name for package, name in public if name not in tried and inspect.isfunction(getattr(package, name))]
