"""GuidedGradCAMCallback: explain a fixed probe batch at the end of every epoch.

The callback decides when, which samples and which writers; everything else happens elsewhere.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from ..attribution.explainer import Explainer
from ..attribution.layers import LayerLike, find_model
from ..attribution.methods.names import DEFAULT_METHODS
from ..attribution.targets.base import TargetLike
from ..attribution.targets.classes import Class
from ..attribution.targets.outputs import as_target
from ..drawing.class_names import ClassNames, names_by_number
from ..drawing.panels import Filmstrip, Frame
from ..drawing.pixels import Style
from ..errors import ArgumentError, check_whole_number
from ..filters.kernels import Filters
from ..metrics.regions import Region, bounds, region_mask
from ..metrics.statistics import mean_of_present
from ..reid.retrieval import Gallery
from .frames import _FILM_LENGTH, Captions, title
from .history import DRIFT_COLUMNS, EpochRecord, History, Recorder
from .monitor import ProbeMonitor
from .pairs import lacks_reference, take_partners
from .probe import Display, explained_pictures, given_pictures, given_regions, take_probe
from .report import drift_report
from .writers.background import BackgroundWriter
from .writers.base import LogEntry, Run, Summary, Writer
from .writers.folder import FolderWriter
from .writers.tensorboard import TensorBoardWriter, _group


class GuidedGradCAMCallback(keras.callbacks.Callback):
    """Logs to TensorBoard what the model looks at, for the same pictures after every epoch.

    Before the first epoch and at the end of each one, Grad-CAM, guided backpropagation and guided Grad-CAM of the probe
    are computed with the current weights and logged: a panel per picture and an overview of all in the Images
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
        layer_call: Which call of a layer that the model calls several times (0 first, -1 last). Of the two pictures of
            a siamese model the one that goes into that call is explained.
        branch: A model within the model to explain instead of the whole, by name, path or itself: of a siamese model
            the network that embeds each picture. The probe is what this one takes.
        target: What to explain: anything that :class:`keras_gradcam.Explainer` takes. By default the label where the
            probe has labels, otherwise the class predicted at that epoch. With a :class:`keras_gradcam.Similarity` (or
            ``Dot``, ``Distance``) that has a picture for each probe, or none where labels are identities, the probes
            are pairs: both pictures get maps, and the similarity of one identity and of two is logged (where partners
            are given and there are no labels: of pairs and of non-pairs).
        gallery: Pictures to rank while the network learns: ``(pictures, identities)`` for the probe as queries, or a
            :class:`keras_gradcam.reid.Gallery`, with cameras and queries. Adds CMC, mAP and ranked lists with maps.
        filters: True to log the learned filters of the first convolution too, or a
            :class:`keras_gradcam.filters.Filters` that says which, and with which pictures to find what excites them.
        class_names: Names of the classes, or of the identities, by number.
        display_images: The pictures as people know them, where the model's inputs are preprocessed; one per picture of
            ``probe``. By default the inputs are stretched for display as :func:`keras_gradcam.render.displayed` says.
        regions: Where attention should (or should not) be, one per picture of ``probe``: boxes (x0, y0, x1, y1) in
            input pixels or masks (H, W). Adds the share of mass inside and the pointing game.
        methods: Which maps to compute, see :class:`keras_gradcam.Explainer`; the first of them on the layer's grid is
            the one whose drift is measured. "gradcam" alone costs little more than a forward pass.
        every: Log every so many epochs; the last one is always logged.
        max_probes: How many pictures to take at most: the first ones. Where identities make pairs, the first whose
            identity has another picture, and four of each while there is room for more identities.
        filmstrip_every: Also draw filmstrips every so many logged epochs, not only at the end.
        style: Colours and scale of the maps.
        save_dir: A folder for ``overview.png`` of the latest logged epoch and, at the end, filmstrips, animated GIFs
            and all raw maps; see :class:`keras_gradcam.writers.files.FolderWriter`.
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
        branch: Any = None,
        target: TargetLike = None,
        gallery: Any = None,
        filters: Filters | bool = False,
        class_names: ClassNames = None,
        display_images: Any = None,
        regions: Sequence[Region] | np.ndarray | None = None,
        methods: str | Sequence[str] = DEFAULT_METHODS,
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
            check_whole_number(name, number, 1)
        if on_error not in ("warn", "raise"):
            raise ArgumentError("on_error", "be 'warn' or 'raise'", repr(on_error))
        self._probe = take_probe(probe, int(max_probes), paired=lacks_reference(as_target(target)))
        if target is None and self._probe.labels is not None:
            target = Class(self._probe.labels)
        self._target, self._partners = take_partners(as_target(target), self._probe)
        self._gallery = gallery if gallery is None or isinstance(gallery, Gallery) else Gallery(gallery)
        self._explainer_of = functools.partial(
            Explainer, layer=layer, layer_call=layer_call, target=self._target, methods=methods
        )
        self._filters = Filters() if filters is True else filters or None
        self._branch = branch
        self._class_names = names_by_number(class_names)
        self._given_pictures = given_pictures(display_images, self._probe.places)
        self._regions = given_regions(regions, self._probe.places)
        self._every, self._filmstrip_every = int(every), filmstrip_every
        self._logs_prefix = logs_prefix
        self._on_error = on_error
        self._style = style or Style()
        writers: list[Writer] = [TensorBoardWriter(os.path.join(os.fspath(log_dir), "gradcam"), self._style)]
        if save_dir is not None:
            writers.append(FolderWriter(os.fspath(save_dir), self._style))
        self._writers = [BackgroundWriter(writer) for writer in writers]
        self._explainer: Explainer | None = None
        self._monitor: ProbeMonitor | None = None
        self._recorder = Recorder()
        self._vmax: np.ndarray = np.zeros(len(self._probe))
        self._partner_vmax: np.ndarray = np.zeros(len(self._probe))
        self._begun = self._warned = False
        self._epoch = self._logged = -1

    # --- when -------------------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks everything that can be known to be wrong, before anything is trained."""
        self._begun = self._warned = False
        self._epoch = self._logged = -1
        explained = self.model if self._branch is None else find_model(self.model, self._branch)
        if self._explainer is None or self._explainer.model is not explained:
            self._explainer = self._explainer_of(explained)
        self._monitor = ProbeMonitor(
            self._explainer, self._probe, self._target, self._partners, self._gallery, self._filters
        )
        self._check_class_names(self._monitor)
        run = self._run(self._explainer)
        self._captions = Captions(
            run.pictures,
            run.labels,
            run.names,
            run.target,
            per_frame=self._style.scale == "frame",
            label=run.label,
            partners=run.partners,
            quantity=run.quantity,
        )
        masks = None if self._regions is None else [region_mask(region, run.input_size) for region in self._regions]
        self._recorder.watch(masks, run.input_size)
        for writer in self._writers:
            writer.prepare(run)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the model before its first epoch; by now a resumed training has its weights back."""
        if not self._begun and epoch == 0:
            self._vmax, self._partner_vmax = np.zeros(len(self._probe)), np.zeros(len(self._probe))
            self._guarded(lambda: self._log(None))
        self._begun = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the epoch if it is due or the last."""
        self._epoch = epoch
        last = epoch + 1 == (self.params or {}).get("epochs") or getattr(self.model, "stop_training", False)
        record = None
        if (epoch + 1) % self._every == 0 or last:
            record = self._guarded(lambda: self._log(epoch, last))
        if logs is not None and self._logs_prefix is not None:
            self._add_to_logs(logs, record)

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
            self._guarded(lambda: self._log(self._epoch, last=True))
        if self._begun and self._recorder.records:
            self._guarded(self._summarize)
        self._begun = False
        for writer in self._writers:
            self._guarded(writer.close)

    # --- looking back -----------------------------------------------------------------------------------------------

    @property
    def history(self) -> History:
        """Maps, predictions and drift of all logged epochs, as arrays."""
        return self._recorder.history()

    def report(self) -> str:
        """A Markdown summary: which probes moved most, when each settled, where predictions flipped."""
        return drift_report(self.history, self._probe_name)

    # --- what -------------------------------------------------------------------------------------------------------

    def _log(self, epoch: int | None, last: bool = False) -> EpochRecord | None:
        """Explains the probe and hands the result to the writers; ``epoch`` is None before the first one."""
        if epoch is not None:
            self._logged = epoch
        if self._monitor is None:
            return None
        measurement = self._monitor.measure(0 if epoch is None else len(self._recorder.records) + 1, last)
        maps, partner_maps = (
            measurement.explanation.cam,
            None if measurement.partner is None else measurement.partner.cam,
        )
        record = self._recorder.add(epoch, maps, measurement.said, partner_maps, measurement.totals)
        self._vmax = self._raised(self._vmax, maps)
        self._partner_vmax = self._raised(self._partner_vmax, partner_maps)
        frames = self._captions.frames(measurement.explanation, record, self._vmax, self._partner_vmax)
        entry = LogEntry(
            record, frames, title(record), self._scalars(record), measurement.rankings, measurement.pictures
        )
        for writer in self._writers:
            self._guarded(functools.partial(writer.write, entry))
        if measurement.failure is not None:
            self._guarded(functools.partial(_raise, measurement.failure))
        if epoch is not None and self._filmstrip_every and len(self._recorder.records) % self._filmstrip_every == 0:
            self._summarize()
        return record

    def _raised(self, vmax: np.ndarray, maps: np.ndarray | None) -> np.ndarray:
        """The values of the strongest colour: of these maps, or the largest so far."""
        if maps is None:
            return vmax
        peaks = np.nan_to_num(maps.reshape(len(maps), -1), posinf=0).max(axis=1)
        return peaks if self._captions.per_frame else np.maximum(vmax, peaks)

    def _scalars(self, record: EpochRecord) -> dict[str, float]:
        """What is known per probe, the mean over the probes that have a value, and how many have none."""
        means = self._means(record)
        if record.epoch is None:
            start = {f"gradcam_start/{name}_mean": mean for name, mean in means.items() if not np.isnan(mean)}
            return start | {f"gradcam_start/{name}": value for name, value in record.totals.items()}
        scalars = {f"{_group(name)}/{name}": value for name, value in record.totals.items()}
        for name, mean in means.items():
            values = record.column(name)
            present = np.flatnonzero(~np.isnan(values))
            if record.maps is not None and name in DRIFT_COLUMNS:
                scalars[f"gradcam_{name}/missing"] = float(len(values) - len(present))
            if len(present):
                scalars[f"gradcam_{name}/mean"] = mean
                scalars.update({f"gradcam_{name}/probe_{number:02d}": float(values[number]) for number in present})
        return scalars

    def _add_to_logs(self, logs: dict[str, Any], record: EpochRecord | None) -> None:
        """Puts the means into Keras' logs. Never as NaN: EarlyStopping would take the first one for its best."""
        means = {} if record is None else self._means(record) | dict(record.totals)
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

    def _means(self, record: EpochRecord) -> dict[str, float]:
        """Means over the probes that have a value, NaN where none has."""
        regions = ("mass_inside", "pointing_game")
        names = [
            name
            for name in ("score", "probability", *DRIFT_COLUMNS)
            if self._regions is not None or name not in regions
        ]
        return {name: mean_of_present(record.column(name))[0] for name in names}

    def _summarize(self) -> None:
        history = self.history
        summary = Summary(int(history.epochs[-1]), history, self._filmstrips(history), self.report())
        for writer in self._writers:
            self._guarded(functools.partial(writer.summarize, summary))

    def _filmstrips(self, history: History) -> tuple[Filmstrip, ...]:
        """Each probe over evenly chosen epochs, on one scale."""
        if history.maps is None:
            return ()
        count = len(history.epochs)
        shown = np.unique(np.linspace(0, count - 1, min(count, _FILM_LENGTH)).round().astype(int))
        records = [self._recorder.records[position] for position in shown]
        similarity = history.numbers["similarity_previous"][shown]
        filmstrips = []
        for number in range(len(self._probe)):
            frames = []
            for record in records:
                if record.maps is None:
                    return ()
                gradcam = record.maps[number].astype(np.float32)
                vmax = float(np.nan_to_num(gradcam).max()) if self._captions.per_frame else float(self._vmax[number])
                wrong = self._captions.said(record, number)[1]
                partner = self._captions.partner(record, number, float(self._partner_vmax[number]))
                frames.append(
                    Frame(self._captions.pictures[number], gradcam=gradcam, vmax=vmax, wrong=wrong, partner=partner)
                )
            captions = tuple(self._captions.film(record, number) for record in records)
            filmstrips.append(
                Filmstrip(tuple(frames), captions, tuple(float(value) for value in similarity[:, number]))
            )
        return tuple(filmstrips)

    # --- checks -----------------------------------------------------------------------------------------------------

    def _run(self, explainer: Explainer) -> Run:
        which = explainer.explained_input(self._probe.images)
        images = explained_pictures("probe", self._probe.images, which)
        size = (int(images.shape[1]), int(images.shape[2]))
        display = Display(images, self._given_pictures)
        partners = None
        if self._partners is not None:
            pictures = explained_pictures("target", self._partners.pictures, which)
            partners = display.partners(pictures, self._partners.source)
        boxes = None
        if self._regions is not None:
            boxes = tuple(bounds(region_mask(region, size)) for region in self._regions)
        return Run(
            pictures=display.pictures,
            input_size=size,
            layer=explainer.layer_of(self._probe.images),
            target=self._target_in_words(),
            methods=explainer.methods,
            every=self._every,
            labels=self._probe.labels,
            names=self._class_names,
            label="identity" if self._target.is_embedding else "class",
            quantity=self._target.quantity,
            partners=partners,
            regions=boxes,
        )

    def _target_in_words(self) -> str:
        if self._partners is not None:
            return f"{self._partners.name} to the partner"
        return repr(self._target) if len(repr(self._target)) < 80 else "Class of each probe"

    def _check_class_names(self, monitor: ProbeMonitor) -> None:
        shape: tuple[int, ...] = getattr(self._target.select_output(monitor.outputs).predictions, "shape", ())
        if not self._class_names or len(shape) != 2 or self._target.is_embedding:
            return
        classes = max(shape[1], 2)
        if set(self._class_names) != set(range(classes)):
            raise ArgumentError(
                "class_names",
                f"name the classes 0 to {classes - 1} of the model",
                f"{len(self._class_names)} names",
                f"a list of {classes} names",
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


def _raise(error: Exception) -> None:
    raise error
