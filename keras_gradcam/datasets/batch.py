"""Explains a batch of rows, columns in and columns out, in whatever process it is sent to."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer
from ..attribution.explanation import Explanation
from ..attribution.inputs import check_model
from ..attribution.layers import LayerLike
from ..attribution.methods.names import CAMS, MethodsLike
from ..attribution.targets.base import TargetLike
from ..attribution.targets.classes import Class
from ..errors import ArgumentError, check_type, check_whole_number, described, in_one_line
from ..metrics.regions import mass_inside
from ..metrics.statistics import center_of_mass, focus, mass
from ..pictures.reading import threads
from ..pictures.spec import LARGEST_PICTURE, PictureSpec, picture_spec
from .columns import FAILURE, ID, IMAGE, LABEL, REGION, SCALE, read_columns, select
from .decoding import decode_rows
from .plan import EmbeddingLike, Plan, embeddings_of, make_plan

#: The target that stands for the label of each row.
OF_LABEL = "label"

# What was made for copies that other processes have sent, by their token; the last ones only.
_received: dict[str, Session] = {}
_MOST_RECEIVED = 2

_NOT_FINITE = "the model's answer is not a finite number"


@dataclass(frozen=True, eq=False)
class Session:
    """What a process needs to explain, made once.

    Attributes:
        explainer: Explains the model.
        spec: The pictures that it takes.
        plan: What all rows have in common.
        noise: A batch of noise as the model takes it. Batches are filled up with it: black pictures would be all alike,
            which targets warn of.
        pool: Threads that decode.
    """

    explainer: Explainer
    spec: PictureSpec
    plan: Plan
    noise: np.ndarray
    pool: ThreadPoolExecutor


class ExplainBatch:
    r"""Explains batches of rows: a dict of arrays in, a dict of NumPy arrays out, one row for each picture.

    It can be pickled and sent to other processes: to Ray Data's ``map_batches``, to Spark's ``predict_batch_udf``, to
    Beam. The model is loaded where it is first called, and stays compiled there. Batches go through the model
    ``batch_size`` rows at a time, the last ones filled up with rows that are thrown away, so that a row does not depend
    on the batch that it comes in. A picture that cannot be explained stops no others: its row says so in ``failure``.

    Rows have the columns of ``columns`` but for the picture and its region, and

    - ``class`` (int32; -1 where the target is no class), ``score`` (float32), ``probability`` of the class, and
      ``predicted`` with ``confidence``, the class that the model predicts with its probability (float32); of a model
      without classes the score alone;
    - ``layer``, the path of the explained layer, and each map on its own grid by the name of its method, float16
      (N, h, w), as shares of ``NAME_max``, float32 (N,), its largest absolute value: the map itself is their product;
    - ``center_y`` and ``center_x``, the map's centre of mass as shares of the picture, ``focus`` and ``mass``, of the
      first map on the layer's grid; ``mass_inside``, where rows have regions;
    - ``embedding``, float32 (N, D), if asked for; ``failure``, "" where nothing went wrong, else numbers are NaN.

    Args:
        model: The path of a .keras or .h5 file; a function without arguments that returns a model, which is called
            where the model is needed; or a Keras model.
        target: What to explain, as for :class:`keras_gradcam.Explainer`; or "label", the label of each row.
        layer: The feature map to explain; by default the last one with spatial axes.
        methods: The maps, see :class:`keras_gradcam.Explainer`.
        columns: Names in the results with the columns that they are taken from, such as
            ``{"image": "jpg", "id": "__key__", "label": "cls", "region": "box", "camera": "camera"}``. By default
            "image", and "id", "label" and "region" where there are such. "image": pixels, uint8 of any size or as the
            model takes them; encoded pictures; or paths of files. "region": a box (x0, y0, x1, y1) or a mask in pixels
            of the picture, or None.
        preprocess: What is done to pixels before the model: "none" (default), "SCALE,OFFSET" such as "1/127.5,-1", the
            name of a module of keras.applications such as "mobilenet_v2", or a function.
        size: Height and width of the pictures for a model that takes any.
        value_range: What is black and white in grey pictures of more than 8 bits, (0, 4095) for instance.
        embedding: Whether rows get the model's output; of a model with several the name or position of one.
        batch_size: How many rows go through the model at once.

    Raises:
        ArgumentError: If an argument is none of these; when the model is loaded, if one does not fit it.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        >>> explain_batch = ExplainBatch(model, batch_size=4)
        >>> rows = explain_batch({"image": np.ones((2, 8, 8, 3), np.uint8), "id": ["a", "b"]})
        >>> rows["id"].tolist(), rows["gradcam"].shape, rows["gradcam"].dtype
        (['a', 'b'], (2, 6, 6), dtype('float16'))
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Callable[[], Any] | Any,
        *,
        target: TargetLike | str = None,
        layer: LayerLike = None,
        methods: MethodsLike = ("gradcam",),
        columns: Mapping[str, str] | None = None,
        preprocess: Any = None,
        size: Any = None,
        value_range: Any = None,
        embedding: EmbeddingLike = False,
        batch_size: int = 32,
    ) -> None:
        check_whole_number("batch_size", batch_size, 1)
        check_type("embedding", embedding, (bool, str, int), "be True, False, or the name or position of an output")
        if isinstance(target, str) and target != OF_LABEL:
            raise ArgumentError("target", "be a target, or 'label'", repr(target), ["Class(3)", "'label'"])
        self.model = _absolute(model) if isinstance(model, (str, os.PathLike)) else model
        self.target = target
        self.columns = read_columns(columns)
        self.batch_size = int(batch_size)
        self.preprocess, self.size, self.value_range, self.embedding = preprocess, size, value_range, embedding
        #: Columns that every batch must have, beside the pictures.
        self.named = tuple(name for name in columns or () if name not in (IMAGE, ID))
        self.named += (LABEL,) if isinstance(target, str) else ()
        self.methods, self._layer = methods, layer
        #: The largest picture file that is read, in bytes.
        self.most_bytes = LARGEST_PICTURE
        # All copies that one process receives share what was compiled: some engines send one with every task.
        self._token, self._is_copy = secrets.token_hex(16), False
        self._session: Session | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Explains a batch of rows.

        Args:
            batch: Names of columns to their values, one for each row.

        Returns:
            The rows, in their order.

        Raises:
            ArgumentError: If a column is missing, or options do not fit the model.
        """
        return self.explain(self.decode(batch))

    @property
    def session(self) -> Session:
        """The loaded model with what was compiled, of this process."""
        if self._session is None:
            self._session = _received.get(self._token) or self._start()
            if self._is_copy:
                _received[self._token] = self._session
                while len(_received) > _MOST_RECEIVED:
                    _received.pop(next(iter(_received)))
        return self._session

    def _start(self) -> Session:
        model = load_model(self.model)
        check_model(model)
        spec = picture_spec(model, self.preprocess, self.size, self.value_range, self.most_bytes)
        explainer = Explainer(
            model,
            target=None if isinstance(self.target, str) else self.target,
            layer=self._layer,
            methods=self.methods,
            batch_size=self.batch_size,
        )
        shape = (self.batch_size, *spec.size, spec.channels)
        noise = spec.preprocessing(np.random.default_rng(0).integers(0, 256, shape).astype(np.float32))
        plan = make_plan(explainer, noise, self.embedding)
        if isinstance(self.target, str) and not plan.num_classes:
            raise ArgumentError("target", "fit the model", "'label' for a model without classes", "a target")
        return Session(explainer, spec, plan, noise, threads())

    def decode(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Makes pixels of a batch, as :meth:`explain` takes it: the part that needs no model and may run elsewhere."""
        return decode_rows(select(batch, self.columns, self.named), self.session.spec, self.session.pool)

    def explain(self, decoded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Explains what :meth:`decode` returned."""
        rows = {name: values for name, values in decoded.items() if name not in (IMAGE, REGION, FAILURE)}
        failures = decoded[FAILURE].copy()
        target = self._target_of(decoded, failures)
        count = len(failures)
        explanation = self._explained(decoded[IMAGE], target)[:count]
        finite = np.isfinite(explanation.scores)
        if explanation.probabilities is not None:
            finite &= np.isfinite(explanation.probabilities).all(axis=1)
        failures[~finite & (failures == "")] = _NOT_FINITE
        failed = failures != ""
        return {**rows, **self._answers(explanation, decoded, failed), FAILURE: failures}

    def _target_of(self, decoded: Mapping[str, np.ndarray], failures: np.ndarray) -> TargetLike:
        """Returns what is explained in these rows, filled up; writes into ``failures`` which labels are no classes."""
        if not isinstance(self.target, str):
            return None
        classes = self.session.plan.num_classes
        labels = np.zeros(self._padded(len(failures)), np.int64)
        for index, label in enumerate(decoded[LABEL]):
            is_class = isinstance(label, (int, np.integer)) and 0 <= label < classes
            if is_class:
                labels[index] = label
            elif failures[index] == "":
                failures[index] = f"has the label {label!r}, which is none of the model's classes 0 to {classes - 1}"
        return Class(labels)

    def _padded(self, count: int) -> int:
        """Returns a number of rows that fills batches."""
        return max(-(-count // self.batch_size), 1) * self.batch_size

    def _explained(self, pixels: np.ndarray, target: TargetLike) -> Explanation:
        images = self.session.spec.preprocessing(pixels.astype(np.float32))
        missing = self._padded(len(images)) - len(images)
        filled = np.concatenate([images, self.session.noise[:missing]]) if missing else images
        return self.session.explainer(filled, target)

    def _answers(
        self, explanation: Explanation, decoded: Mapping[str, np.ndarray], failed: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns the columns of results, without numbers in rows that failed."""
        plan, count = self.session.plan, len(failed)
        rows: dict[str, np.ndarray] = {}
        if plan.num_classes:
            probabilities, every = explanation.probabilities, np.arange(count)
            assert probabilities is not None
            predicted = np.nan_to_num(probabilities, nan=-1).argmax(axis=1)
            classes = np.full(count, -1) if explanation.classes is None else np.asarray(explanation.classes)
            rows["class"] = np.where(failed, -1, classes).astype(np.int32)
            rows["score"] = _numbers(explanation.scores, failed)
            rows["probability"] = _numbers(
                np.where(classes < 0, np.nan, probabilities[every, np.maximum(classes, 0)]), failed
            )
            rows["predicted"] = np.where(failed, -1, predicted).astype(np.int32)
            rows["confidence"] = _numbers(probabilities[every, predicted], failed)
        else:
            rows["score"] = _numbers(explanation.scores, failed)
        rows["layer"] = np.full(count, plan.layer or "", object)
        cam = next((name for name in plan.maps if name in CAMS), None)
        for name, maps in explanation.drawn_maps().items():
            rows[name], rows[name + SCALE] = _shares_of_largest(_numbers(maps, failed))
            if name == cam:
                rows |= self._statistics(maps, decoded.get(REGION), failed)
        if plan.embedding:
            rows["embedding"] = _numbers(embeddings_of(self.session.explainer, explanation, self.embedding), failed)
        return rows

    def _statistics(self, maps: np.ndarray, regions: np.ndarray | None, failed: np.ndarray) -> dict[str, np.ndarray]:
        """Returns numbers about maps on the layer's grid."""
        plan, size = self.session.plan, self.session.spec.size
        spans = plan.spans or ((0.0, 1.0), (0.0, 1.0))
        center = center_of_mass(maps) * [last - first for first, last in spans] + [first for first, _ in spans]
        rows = {
            "center_y": _numbers(center[:, 0], failed),
            "center_x": _numbers(center[:, 1], failed),
            "focus": _numbers(focus(maps), failed),
            "mass": _numbers(mass(maps), failed),
        }
        if regions is not None:
            inside = [
                np.nan if np.isnan(region).all() else mass_inside(a, region, size, plan.spans)
                for a, region in zip(maps, regions, strict=True)
            ]
            rows["mass_inside"] = _numbers(np.array(inside, np.float64), failed)
        return rows

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_session": None, "_is_copy": True}

    def __repr__(self) -> str:
        model = repr(self.model) if isinstance(self.model, str) else getattr(self.model, "name", described(self.model))
        return f"ExplainBatch({model}, target={self.target!r}, methods={self.methods!r})"


def _absolute(path: str | os.PathLike[str]) -> str:
    """Returns a path that leads to the same file from every folder; addresses such as hf:// stay as they are."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))


def load_model(model: Any) -> Any:
    """Returns the model that a path, a function or a model stands for.

    Raises:
        ArgumentError: If it cannot be loaded.
    """
    if not isinstance(model, str):
        return model if hasattr(model, "predict") or not callable(model) else model()
    import keras

    try:
        return keras.saving.load_model(model, compile=False)
    except Exception as error:  # Keras raises all kinds
        raise ArgumentError(
            "model",
            "be a .keras or .h5 file that Keras can load",
            f"{model!r} ({in_one_line(str(error).split('Exception encountered:')[-1])})",
            "a function that returns the model, where it has layers of your own",
        ) from error


def _numbers(values: np.ndarray, failed: np.ndarray) -> np.ndarray:
    """Returns values as float32, NaN in rows that failed."""
    return np.where(failed.reshape(-1, *[1] * (values.ndim - 1)), np.nan, values).astype(np.float32)


def _shares_of_largest(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns maps as shares of their largest absolute value, float16, and these values, float32.

    The scores of some models are beyond what 16 bits hold, those of others vanish there; shares keep three digits.
    """
    absolute, axes = np.abs(maps), tuple(range(1, maps.ndim))
    largest = np.where(np.isfinite(absolute), absolute, 0).max(axis=axes, initial=0)
    largest = np.where(np.isnan(absolute).all(axis=axes), np.nan, largest).astype(np.float32)
    scale = np.where(largest > 0, largest, 1).reshape(-1, *[1] * (maps.ndim - 1))
    return (maps / scale).astype(np.float16), largest
