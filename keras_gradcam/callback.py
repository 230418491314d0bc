"""GuidedGradCAMCallback: explain a fixed probe batch at the end of every epoch.

The callback decides when, which samples and which sinks; everything else happens elsewhere.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from .captions import Captions, title
from .drift import Region, mean_of_present, region_mask
from .engine.base import Outputs, Structure
from .explainer import METHODS, Explainer, Explanation
from .history import DRIFT_COLUMNS, History, Moment, Recorder
from .layers import LayerLike, explained_input, signature_of
from .panels import Film, Frame
from .predictions import class_probabilities
from .probe import bounds, given_pictures, given_regions, names_by_number, take_probe
from .render import Style, displayed, no_larger_than_a_cell
from .report import drift_report
from .sinks.background import BackgroundSink
from .sinks.base import Record, Run, Sink, Summary
from .sinks.files import FileSink
from .sinks.tensorboard import TensorBoardSink
from .targets import Class, Output, Target, TargetLike, as_target

# A filmstrip shows at most so many epochs.
_FILM_LENGTH = 12


class GuidedGradCAMCallback(keras.callbacks.Callback):
    """Logs to TensorBoard what the model looks at, for the same pictures after every epoch.

    Before the first epoch and at the end of each one, Grad-CAM, guided backpropagation and guided Grad-CAM of the probe
    are computed with the weights of the moment and logged: a panel per picture and an overview of all in the Images
    tab, scores and drift in Scalars, every epoch side by side in the Grad-CAM tab, filmstrips at the end. Training is
    not touched: the weights come out bit for bit as without the callback. What cannot work raises when training begins;
    what fails later warns once, and training goes on.

    The means over the probes also go into Keras' own ``logs`` (``gradcam_mass_inside``, ``gradcam_focus``,
    ``gradcam_similarity_previous``, ...), where ``History``, ``CSVLogger``,
    ``EarlyStopping(monitor="gradcam_mass_inside", mode="max")`` and ``ModelCheckpoint`` find them, provided that this
    callback stands before those in the list. As with Keras' ``validation_freq``, a name is absent from the logs of an
    epoch that has no value: one that is not logged, or in which no probe has a map.

    Args:
        probe: The pictures: an array, ``(images, labels)``, a ``tf.data.Dataset`` or a ``PyDataset`` of either, batched
            or not. Labels are class numbers or one-hot.
        log_dir: The folder that TensorBoard watches; written is its sub-run ``gradcam``.
        layer: The feature map to explain; by default the last one with spatial extent. See
            :func:`keras_gradcam.list_layers`.
        layer_call: Which call of a layer that the model calls several times (0 first, -1 last).
        target: What to explain: anything that :class:`keras_gradcam.Explainer` takes. By default the label where the
            probe has labels, otherwise the class predicted at that epoch.
        class_names: Names of the classes, by number.
        display_images: The pictures as people know them, where the model's inputs are preprocessed. By default the
            inputs are stretched for display as :func:`keras_gradcam.render.displayed` says.
        regions: Where attention should (or should not) be, one per probe: boxes (x0, y0, x1, y1) in input pixels or
            masks (H, W). Adds the share of mass inside and the pointing game.
        methods: Which maps to compute; "gradcam" alone costs little more than a forward pass.
        every: Log every so many epochs; the last one is always logged.
        max_probes: How many pictures to take at most.
        filmstrip_every: Also draw filmstrips every so many logged epochs, not only at the end.
        style: Colours and scale of the maps.
        save_dir: A folder for ``overview.png`` of the latest logged epoch and, at the end, filmstrips, animated GIFs
            and all raw maps; see :class:`keras_gradcam.sinks.files.FileSink`.
        logs_prefix: What the names in ``logs`` begin with; None keeps them out of ``logs``.
        on_error: "warn" to go on training after a failure, "raise" to stop.

    Raises:
        ValueError: In the constructor or when training begins, if an argument does not fit the others or the model.

    Example:
        >>> import keras, numpy as np, tempfile
        >>> keras.utils.set_random_seed(0)
        >>> images, labels = np.random.rand(8, 16, 16, 3), np.arange(8) % 2
        >>> model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> callback = GuidedGradCAMCallback((images, labels), tempfile.mkdtemp(), class_names=["cat", "dog"])
        >>> _ = model.fit(images, labels, epochs=2, verbose=0, callbacks=[callback])
        >>> callback.history.maps.shape
        (2, 8, 14, 14)

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, https://arxiv.org/abs/1610.02391.
    """

    def __init__(
        self,
        probe: Any,
        log_dir: str | os.PathLike[str] = "logs",
        *,
        layer: LayerLike = None,
        layer_call: int | None = None,
        target: TargetLike = None,
        class_names: Sequence[str] | Mapping[int, str] | None = None,
        display_images: Any = None,
        regions: Sequence[Region] | np.ndarray | None = None,
        methods: Sequence[str] = METHODS,
        every: int = 1,
        max_probes: int = 16,
        filmstrip_every: int | None = None,
        style: Style | None = None,
        save_dir: str | os.PathLike[str] | None = None,
        logs_prefix: str | None = "gradcam_",
        on_error: str = "warn",
    ) -> None:
        super().__init__()
        for name, number in (("every", every), ("max_probes", max_probes), ("filmstrip_every", filmstrip_every or 1)):
            if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
                raise ValueError(f"`{name}` must be a whole number >= 1. Received: {number!r}.")
        if on_error not in ("warn", "raise"):
            raise ValueError(f"`on_error` must be 'warn' or 'raise'. Received: {on_error!r}.")
        self._probe = take_probe(probe, int(max_probes))
        if target is None and self._probe.labels is not None:
            target = Class(self._probe.labels)
        self._target = as_target(target)
        self._explainer_of = functools.partial(
            Explainer, layer=layer, layer_call=layer_call, target=self._target, methods=methods
        )
        self._class_names = names_by_number(class_names)
        self._given_pictures = given_pictures(display_images, len(self._probe))
        self._regions = given_regions(regions, len(self._probe))
        self._every, self._filmstrip_every = int(every), filmstrip_every
        self._logs_prefix = logs_prefix
        self._on_error = on_error
        self._style = style or Style()
        sinks: list[Sink] = [TensorBoardSink(os.path.join(os.fspath(log_dir), "gradcam"), self._style)]
        if save_dir is not None:
            sinks.append(FileSink(os.fspath(save_dir), self._style))
        self._sinks = [BackgroundSink(sink) for sink in sinks]
        self._explainer: Explainer | None = None
        self._recorder = Recorder()
        self._tops = np.zeros(len(self._probe))
        self._begun = self._warned = False
        self._epoch = self._logged = -1

    # --- when -------------------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks everything that can be known to be wrong, before anything is trained."""
        self._begun = self._warned = False
        self._epoch = self._logged = -1
        if self._explainer is None or self._explainer.model is not self.model:
            self._explainer = self._explainer_of(self.model)
        self._outputs = self._explainer.outputs(self._probe.images)
        self._check_class_names(self._outputs)
        run = self._run(self._explainer)
        self._captions = Captions(
            run.pictures, run.labels, run.names, run.target, per_frame=self._style.scale == "frame"
        )
        masks = None if self._regions is None else [region_mask(region, run.input_size) for region in self._regions]
        self._recorder.watch(masks, run.input_size)
        for sink in self._sinks:
            sink.prepare(run)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the model before its first epoch; by now a resumed training has its weights back."""
        if not self._begun and epoch == 0:
            self._tops = np.zeros(len(self._probe))
            self._guarded(lambda: self._log(None))
        self._begun = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the epoch if it is due or the last."""
        self._epoch = epoch
        last = epoch + 1 == (self.params or {}).get("epochs") or getattr(self.model, "stop_training", False)
        moment = None
        if (epoch + 1) % self._every == 0 or last:
            moment = self._guarded(lambda: self._log(epoch))
        if logs is not None and self._logs_prefix is not None:
            self._add_to_logs(logs, moment)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes what is left. A training that another callback ended early gets its last epoch."""
        self.close()

    def close(self) -> None:
        """Logs the last epoch if it was not due, draws filmstrips and the report, and ends writing.

        Done by itself when training ends; call it after a training that was interrupted.
        """
        # A callback that restores weights at the end of training and stands before this one has also set
        # `stop_training` before this one's `on_epoch_end`: the weights here are those of the last epoch.
        if self._logged != self._epoch:
            self._guarded(lambda: self._log(self._epoch))
        if self._begun and self._recorder.moments:
            self._guarded(self._summarize)
        self._begun = False
        for sink in self._sinks:
            self._guarded(sink.close)

    # --- looking back -----------------------------------------------------------------------------------------------

    @property
    def history(self) -> History:
        """Maps, predictions and drift of all logged epochs, as arrays."""
        return self._recorder.history()

    def report(self) -> str:
        """A Markdown summary: which probes moved most, when each settled, where predictions flipped."""
        return drift_report(self.history, self._probe_name)

    # --- what -------------------------------------------------------------------------------------------------------

    def _log(self, epoch: int | None) -> Moment | None:
        """Explains the probe and hands the result to the sinks; ``epoch`` is None before the first one."""
        if epoch is not None:
            self._logged = epoch
        if self._explainer is None:
            return None
        explanation = self._explainer(self._probe.images)
        moment = self._recorder.add(epoch, explanation.gradcam, self._said(explanation))
        if explanation.gradcam is not None:
            peaks = np.nan_to_num(explanation.gradcam.reshape(len(explanation), -1), posinf=0).max(axis=1)
            self._tops = peaks if self._captions.per_frame else np.maximum(self._tops, peaks)
        frames = self._captions.frames(explanation, moment, self._tops)
        record = Record(moment, frames, title(moment), self._scalars(moment))
        for sink in self._sinks:
            self._guarded(functools.partial(sink.write, record))
        if epoch is not None and self._filmstrip_every and len(self._recorder.moments) % self._filmstrip_every == 0:
            self._summarize()
        return moment

    def _said(self, explanation: Explanation) -> dict[str, np.ndarray]:
        """What the model said: the columns that do not come from the maps."""
        said = {"score": explanation.scores}
        probabilities = _probabilities(explanation.predictions, self._outputs, self._target)
        if explanation.classes is not None:
            said["explained"] = explanation.classes
        if probabilities is not None:
            samples = np.arange(len(explanation))
            # A model whose outputs are not finite predicts nothing.
            broken = ~np.isfinite(probabilities).all(axis=1)
            said["predicted"] = np.where(broken, np.nan, probabilities.argmax(axis=1))
            said["confidence"] = probabilities.max(axis=1)
            if explanation.classes is not None:
                said["probability"] = probabilities[samples, explanation.classes]
        return said

    def _scalars(self, moment: Moment) -> dict[str, float]:
        """What is known per probe, the mean over the probes that have a value, and how many have none."""
        means = self._means(moment)
        if moment.epoch is None:
            return {f"gradcam_start/{name}_mean": mean for name, mean in means.items() if not np.isnan(mean)}
        scalars: dict[str, float] = {}
        for name, mean in means.items():
            values = moment.column(name)
            present = np.flatnonzero(~np.isnan(values))
            if moment.maps is not None and name in DRIFT_COLUMNS:
                scalars[f"gradcam_{name}/missing"] = float(len(values) - len(present))
            if len(present):
                scalars[f"gradcam_{name}/mean"] = mean
                scalars.update({f"gradcam_{name}/probe_{number:02d}": float(values[number]) for number in present})
        return scalars

    def _add_to_logs(self, logs: dict[str, Any], moment: Moment | None) -> None:
        """Puts the means into Keras' logs. Never as NaN: EarlyStopping would take the first one for its best."""
        means = {} if moment is None else self._means(moment)
        named = {f"{self._logs_prefix}{name}": mean for name, mean in means.items() if not np.isnan(mean)}
        taken = sorted(set(named) & set(logs))
        if taken and not self._warned:
            self._warned = True
            warnings.warn(
                f"{taken[0]!r} is in the logs already, likely from another GuidedGradCAMCallback. Give one of them "
                "another `logs_prefix`.",
                UserWarning,
                stacklevel=3,
            )
        logs.update(named)

    def _means(self, moment: Moment) -> dict[str, float]:
        """Means over the probes that have a value, NaN where none has."""
        regions = ("mass_inside", "pointing_hit")
        names = [
            name
            for name in ("score", "probability", *DRIFT_COLUMNS)
            if self._regions is not None or name not in regions
        ]
        return {name: mean_of_present(moment.column(name))[0] for name in names}

    def _summarize(self) -> None:
        history = self.history
        summary = Summary(int(history.epochs[-1]), history, self._films(history), self.report())
        for sink in self._sinks:
            self._guarded(functools.partial(sink.summarize, summary))

    def _films(self, history: History) -> tuple[Film, ...]:
        """Each probe over evenly chosen epochs, on one scale."""
        if history.maps is None:
            return ()
        count = len(history.epochs)
        shown = np.unique(np.linspace(0, count - 1, min(count, _FILM_LENGTH)).round().astype(int))
        moments = [self._recorder.moments[position] for position in shown]
        similarity = history.numbers["similarity_previous"][shown]
        films = []
        for number in range(len(self._probe)):
            frames = []
            for moment in moments:
                if moment.maps is None:
                    return ()
                gradcam = moment.maps[number].astype(np.float32)
                top = float(np.nan_to_num(gradcam).max()) if self._captions.per_frame else float(self._tops[number])
                wrong = self._captions.said(moment, number)[1]
                frames.append(Frame(self._captions.pictures[number], gradcam=gradcam, top=top, wrong=wrong))
            captions = tuple(
                (title(moment), *self._captions.short(moment, number), f"similarity {value:.2f}")
                for moment, value in zip(moments, similarity[:, number], strict=True)
            )
            films.append(Film(tuple(frames), captions, tuple(float(value) for value in similarity[:, number])))
        return tuple(films)

    # --- checks -----------------------------------------------------------------------------------------------------

    def _run(self, explainer: Explainer) -> Run:
        signature = signature_of(self._probe.images)
        images = keras.tree.flatten(self._probe.images)[explained_input(signature)]
        if images.ndim not in (3, 4):
            raise ValueError(
                f"`probe` must hold pictures, shape (N, H, W, C) or (N, H, W). Received: shape {images.shape}. "
                "Candidates: keras_gradcam.Explainer, for series and volumes."
            )
        size = (int(images.shape[1]), int(images.shape[2]))
        boxes = None
        if self._regions is not None:
            boxes = tuple(bounds(region_mask(region, size)) for region in self._regions)
        return Run(
            pictures=no_larger_than_a_cell(displayed(images) if self._given_pictures is None else self._given_pictures),
            input_size=size,
            layer=explainer.layer_of(self._probe.images),
            target=repr(self._target) if len(repr(self._target)) < 80 else "Class of each probe",
            methods=explainer.methods,
            every=self._every,
            labels=self._probe.labels,
            names=self._class_names,
            regions=boxes,
        )

    def _check_class_names(self, outputs: Outputs) -> None:
        shape: tuple[int, ...] = getattr(_explained_output(outputs, self._target).predictions, "shape", ())
        if not self._class_names or len(shape) != 2:
            return
        classes = max(shape[1], 2)
        if set(self._class_names) != set(range(classes)):
            raise ValueError(
                f"`class_names` must name the classes 0 to {classes - 1} of the model. "
                f"Received: {len(self._class_names)} names. Candidates: a list of {classes} names."
            )

    def _probe_name(self, number: int) -> str:
        label = "" if self._probe.labels is None else f" {self._captions.full_name(self._probe.labels[number])}"
        return f"{number:02d}{label}"

    def _guarded(self, action: Callable[[], Any]) -> Any:
        """Runs what may fail in the middle of a training: a full disk must not cost the training."""
        try:
            return action()
        except Exception as error:
            if self._on_error == "raise":
                raise
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"GuidedGradCAMCallback could not log and training goes on: {type(error).__name__}: {error} "
                    "(said once per training; on_error='raise' stops instead).",
                    RuntimeWarning,
                    stacklevel=2,
                )
            return None


def _explained_output(outputs: Outputs, target: Target) -> Outputs:
    return target.narrow(outputs) if isinstance(target, Output) else outputs


def _probabilities(predictions: Structure, outputs: Outputs, target: Target) -> np.ndarray | None:
    """Class probabilities (N, K) of the explained output, or None if it has no classes."""
    said = _explained_output(replace(outputs, predictions=predictions), target)
    return class_probabilities(said.predictions, said.endings)
