"""GuidedGradCAMCallback: explains the same pictures at the end of every epoch.

The callback says when; what is measured, drawn and written stands in the other modules of this folder.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
from collections.abc import Callable, Sequence
from typing import Any

import keras

from ..attribution.explainer import Explainer
from ..attribution.inputs import check_model
from ..attribution.layers import LayerLike
from ..attribution.methods.names import DEFAULT_METHODS, MethodsLike, method_names
from ..attribution.targets.base import Target, TargetLike
from ..attribution.targets.outputs import Output, as_target
from ..drawing.class_names import ClassNames, names_by_number
from ..drawing.pixels import StyleLike, as_style
from ..engine import current_engine
from ..errors import ArgumentError, check_choice, check_path, check_type, check_whole_number
from ..filters.kernels import Filters
from ..reid.retrieval import Gallery
from .folders import holds_timeline, own_folder, unused_folder, warn_about_replacement
from .frames import FrameBuilder
from .history import EpochRecord, History, Recorder
from .keras_logs import PREFIX, LogsLike, add_to_history, check_logs, chosen_means
from .labels import apply_labels, warn_about_labels
from .monitor import ProbeMonitor, check_alone, check_explainer
from .notices import LOGGER, warn
from .pairs import Pairs, lacks_reference, make_pairs
from .probe import Probe, ProbeSamples, as_probe
from .report import drift_report, probe_name
from .writers.background import BackgroundWriter
from .writers.base import LogEntry, Run, Summary, Writer, check_writers
from .writers.folder import FolderWriter
from .writers.tensorboard import TensorBoardWriter


class GuidedGradCAMCallback(keras.callbacks.Callback):
    """Logs to TensorBoard what the model looks at, for the same pictures after every epoch.

    Before the first epoch and at the end of each one, Grad-CAM, guided backpropagation and guided Grad-CAM of the probe
    are computed with the current weights and logged: a panel per picture and an overview of all in the Images
    tab, scores and drift in Scalars, every epoch side by side in the Grad-CAM tab, filmstrips at the end. Training is
    not touched: the weights come out bit for bit as without the callback. What cannot work raises when training begins;
    what fails later warns once, and training goes on.

    The means over the probes also go into Keras' ``History`` (``gradcam_mass_inside``, ``gradcam_focus``,
    ``gradcam_similarity_previous``, ...), and those chosen by ``logs`` into its ``logs`` too, where its progress line,
    ``CSVLogger``, ``EarlyStopping(monitor="gradcam_mass_inside", mode="max")`` and ``ModelCheckpoint`` find them,
    provided that this callback stands before those in the list. As with Keras' ``validation_freq``, a name is absent
    from an epoch that has no value: one that is not logged, or in which no probe has a map.

    Trained again with the same callback, a model goes on with its timeline: ``fit(epochs=1)`` in a loop gives one
    timeline of all epochs. Another model starts a new one.

    Args:
        probe: The pictures: an array, ``(images, labels)``, a ``tf.data.Dataset``, a ``PyDataset`` or any other data
            set of either, of which the first 16 are explained; or a :class:`keras_gradcam.Probe`, which says how many,
            where attention should be and how pictures are shown. Labels may be whatever Keras takes for validation;
            class numbers and one-hot rows are explained and shown, others are left aside.
        log_dir: The folder that TensorBoard watches, local or a URL (``gs://``, ``s3://``, ...) that TensorFlow or
            fsspec can open; written is its sub-run ``gradcam``. ``{trial}`` in it is replaced by a number that no
            folder has yet, so that the folds of a cross-validation or the trials of a tuner get a timeline each.
        explainer: A :class:`keras_gradcam.Explainer` of the model in training, or of a model within it or made of its
            layers. It replaces ``layer``, ``target`` and ``methods``, and has more options: which call of a shared
            layer (``layer_call``), which input, the batch size. Of a siamese model,
            ``Explainer(model.get_layer("backbone"))`` explains the network that embeds each picture; the probe is then
            what this network takes. An explainer without a target explains the labels, if the probe has labels.
        layer: The feature map to explain; by default the last one with spatial extent. See
            :func:`keras_gradcam.list_layers`.
        target: What to explain: anything that :class:`keras_gradcam.Explainer` takes. By default the label where the
            probe has labels, otherwise the class predicted at that epoch; of a regression, the value.
            ``Output("kind")`` takes the labels of that output. With a :class:`keras_gradcam.Similarity` (or
            ``Dot``, ``Distance``) that has a picture for each probe, or none where labels are identities, the probes
            are pairs: both pictures get maps, and the similarity of one identity and of two is logged (where partners
            are given and there are no labels: of pairs and of non-pairs).
        methods: Which maps to compute, see :class:`keras_gradcam.Explainer`; the first of them on the layer's grid is
            the one whose drift is measured. "gradcam" alone costs little more than a forward pass.
        gallery: Pictures to rank while the network learns: ``(pictures, identities)`` for the probe as queries, or a
            :class:`keras_gradcam.reid.Gallery`, with cameras and queries. Adds CMC, mAP and ranked lists with maps.
        filters: True to log the learned filters of the first convolution too, or a
            :class:`keras_gradcam.filters.Filters` that says which, and with which pictures to find what excites them.
        class_names: Names of the classes, or of the identities, by number.
        every: Number of epochs from one logged epoch to the next; the last epoch is always logged.
        style: Colours and scale of the maps, and how much is drawn for the Images tab.
        save_dir: A folder, in which ``{trial}`` may stand too, for ``overview.png`` of the latest logged epoch and, at
            the end, filmstrips, animated GIFs and all raw maps; see
            :class:`keras_gradcam.training.writers.folder.FolderWriter`.
        writers: Other places to write to, such as an experiment tracker: objects with the four methods of
            :class:`keras_gradcam.training.writers.base.Writer`, where an example stands. One that fails is warned of
            once and costs the others nothing.
        logs: Which means go into Keras' ``logs``, and so into its progress line: "auto" for one of them,
            ``gradcam_mass_inside`` where there are regions and ``gradcam_similarity_previous`` elsewhere; "all"; a list
            such as ``["focus", "mass_inside"]``; a dict that names them, ``{"attention": "mass_inside"}``; or () for
            nothing at all. What is not chosen stands in the ``History`` that ``fit`` returns all the same.
        on_error: "warn" to go on training after a failure, "raise" to stop.

    Raises:
        ArgumentError: A ValueError, in the constructor or when training begins, if an argument does not fit the others
            or the model.

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
        probe: Probe | Any,
        log_dir: str | os.PathLike[str] = "logs",
        *,
        explainer: Explainer | None = None,
        layer: LayerLike = None,
        target: TargetLike = None,
        methods: MethodsLike | None = None,
        gallery: Any = None,
        filters: Filters | bool = False,
        class_names: ClassNames = None,
        every: int = 1,
        style: StyleLike = None,
        save_dir: str | os.PathLike[str] | None = None,
        writers: Sequence[Writer] = (),
        logs: LogsLike = "auto",
        on_error: str = "warn",
    ) -> None:
        super().__init__()
        check_whole_number("every", every, 1)
        check_choice("on_error", on_error, ("warn", "raise"))
        check_alone(explainer, layer=layer, target=target, methods=methods)
        self._requested = as_target(target) if explainer is None else explainer.target
        is_default = target is None if explainer is None else repr(self._requested) == repr(as_target(None))
        # Whether labels may say what to explain, as they may in an output of which nothing more is said.
        self._is_open = is_default or (isinstance(self._requested, Output) and self._requested.is_default)
        self._samples = as_probe(probe).read(paired=lacks_reference(self._requested))
        self._explained()  # raises now, where the names of the model's outputs do not matter
        self._own_explainer = explainer
        self._layer, self._methods = layer, DEFAULT_METHODS if methods is None else methods
        method_names(self._methods)  # raises now rather than when training begins
        self._gallery = gallery if gallery is None or isinstance(gallery, Gallery) else Gallery(gallery)
        check_type("filters", filters, (bool, Filters), "be True, False or Filters(...)")
        self._filters = Filters() if filters is True else filters or None
        self._class_names = names_by_number(class_names)
        self._style = as_style(style)
        self._every, self._logs, self._on_error = int(every), check_logs(logs), on_error
        self._log_dir = check_path("log_dir", log_dir)
        self._save_dir = None if save_dir is None else check_path("save_dir", save_dir)
        self._given_writers = [BackgroundWriter(writer) for writer in check_writers(writers)]
        self._writers: list[BackgroundWriter] = []
        self._open_writers: list[BackgroundWriter] = []
        self._explainer: Explainer | None = None
        self._monitor: ProbeMonitor | None = None
        self._frames: FrameBuilder | None = None
        self._recorder = Recorder()
        self._has_begun = False
        self._directory, self._replaces = "", False
        # The model whose timeline it is, and how many epochs of it came before epoch 0 of this training.
        self._timeline_of: Any = None
        self._before = 0
        self._warned: set[Any] = set()
        self._epoch = self._logged = -1

    # Keras 2 asks this before it hands over its model, which `set_model` refuses by name.
    _implements_train_batch_hooks = _implements_test_batch_hooks = _implements_predict_batch_hooks = lambda _: False

    # --- when -------------------------------------------------------------------------------------------------------

    def set_model(self, model: Any) -> None:
        """Takes the model in training; of Keras 3 alone."""
        if self._own_explainer is None:
            check_model(model)
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks everything that can be known to be wrong, before anything is trained.

        Arguments that do not fit raise. A model that trains but that cannot be traced here is like any other failure:
        with ``on_error="warn"`` it is warned of, and nothing is logged.
        """
        self._has_begun, self._warned = False, set()
        self._epoch = self._logged = -1
        self._before, self._monitor = 0, None
        try:
            self._begin()
        except ArgumentError:
            raise
        except Exception as error:
            self._monitor = None
            self._handle(error, None)

    def _begin(self) -> None:
        """Tries the probe, describes the training and opens the writers."""
        model = self.model if self._own_explainer is None else self._own_explainer.model
        target, pairs, samples = self._explained(getattr(model, "output_names", None) or ())
        explainer = self._explainer_of(self.model, target)
        self._monitor = ProbeMonitor(explainer, samples, pairs, self._gallery, self._filters)
        if self._is_open:
            warn_about_labels(target, samples, self._monitor.outputs)
        run = self._monitor.describe(self._class_names, self._style, self._every)
        self._frames = FrameBuilder(run, before=self._frames)
        self._recorder.watch(self._monitor.region_masks(), run.info.input_size, run.info.explained.spans)
        if not current_engine().is_first_process():  # of several; arguments are checked in all of them
            LOGGER.info("The first process of this training explains and writes; this one does not.")
            self._monitor = None
            return
        if self._timeline_of is not self.model or not self._writers:
            self._make_writers()
        self._prepare_writers(run)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the model before its first epoch; by now a resumed training has its weights back."""
        if not self._has_begun and epoch == 0:
            if self._timeline_of is self.model and self._recorder.records:
                self._before = 1 + (self._recorder.records[-1].epoch or 0)
            else:
                self._start()
        self._has_begun, self._timeline_of = True, self.model

    def _start(self) -> None:
        """Begins a timeline with the model before its first epoch."""
        if self._frames is not None:
            self._frames.restart()
            if self._replaces:
                warn_about_replacement(self._directory)
        self._guarded(self._log, None)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the epoch if it is due or the last."""
        is_last = epoch + 1 == (self.params or {}).get("epochs") or getattr(self.model, "stop_training", False)
        self._epoch = epoch = self._before + epoch
        record = None
        if (epoch + 1) % self._every == 0 or is_last:
            record = self._guarded(self._log, epoch, is_last)
        if logs is not None and record is not None and self._logs != ():
            self._add_to_logs(logs, record)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes what is left. A training that another callback ended early gets its last epoch."""
        self.close()

    def close(self) -> None:
        """Logs the last epoch if it was not due, draws filmstrips and the report, and ends writing.

        Done by itself when training ends; call it after a training that was interrupted.
        """
        try:
            # A callback that restores weights at the end of training and stands before this one has also set
            # `stop_training` before this one's `on_epoch_end`: the weights here are those of the last epoch.
            if self._logged != self._epoch:
                self._guarded(self._log, self._epoch, True)
            if self._has_begun and self._monitor is not None and self._recorder.records:
                self._guarded(self._summarize)
        finally:
            self._has_begun = False
            self._close_writers()

    # --- looking back -----------------------------------------------------------------------------------------------

    @property
    def history(self) -> History:
        """Maps, predictions and drift of all logged epochs, as arrays."""
        return self._recorder.history()

    def report(self) -> str:
        """Returns a Markdown summary: which probes moved most, when each settled, where predictions flipped."""
        if self._frames is None:
            return drift_report(self.history, str)
        return drift_report(self.history, functools.partial(probe_name, self._frames.run.info))

    # --- what -------------------------------------------------------------------------------------------------------

    def _explained(self, names: Sequence[str] = ()) -> tuple[Target, Pairs | None, ProbeSamples]:
        """Returns what is explained of which pictures, given the names of the model's outputs."""
        target, samples = apply_labels(self._requested, self._is_open, self._samples, names)
        return (*make_pairs(target, samples), samples)

    def _explainer_of(self, model: keras.Model, target: Target) -> Explainer:
        """Returns the explainer of a model, compiled once as long as the model stays the same."""
        if self._own_explainer is not None:
            check_explainer(self._own_explainer, model)
            self._explainer = self._explainer or self._own_explainer.with_target(target)
        elif self._explainer is None or self._explainer.model is not model:
            self._explainer = Explainer(model, layer=self._layer, target=target, methods=self._methods)
        return self._explainer

    def _log(self, epoch: int | None, is_last: bool = False) -> EpochRecord | None:
        """Measures the probe and hands the result to the writers; ``epoch`` is None before the first one."""
        if epoch is not None:
            self._logged = epoch
        if self._monitor is None or self._frames is None:
            return None
        measurement = self._monitor.measure(0 if epoch is None else len(self._recorder.records) + 1, is_last)
        record = self._recorder.add(
            epoch, measurement.maps, measurement.predictions, measurement.partner_maps, measurement.totals
        )
        frames = self._frames.frames(measurement, record)
        entry = LogEntry(record, frames, measurement.rankings, measurement.pictures)
        for writer in self._open_writers:
            self._guarded(writer.write, entry, source=writer)
        if measurement.failure is not None:
            self._guarded(_raise, measurement.failure)
        return record

    def _summarize(self) -> None:
        assert self._frames is not None
        summary = Summary(self.history, self._frames.filmstrips(self._recorder.records), self.report())
        for writer in self._open_writers:
            self._guarded(writer.summarize, summary, source=writer)

    def _add_to_logs(self, logs: dict[str, Any], record: EpochRecord) -> None:
        """Puts the chosen means into Keras' logs, and all others into its history alone."""
        means = record.means() | dict(record.totals)
        named = chosen_means(self._logs, means)
        present = sorted(set(named) & set(logs))
        if present and "logs" not in self._warned:
            self._warned.add("logs")
            warn(
                f"{present[0]!r} is in the logs already, likely from another GuidedGradCAMCallback. Give one of them "
                f"names of its own: `logs={{'other_name': {means and next(iter(means))!r}}}`.",
                stacklevel=3,
            )
        logs.update(named)
        add_to_history(self.model, self, {f"{PREFIX}{name}": mean for name, mean in means.items()}, logs)

    # --- writers and failures ---------------------------------------------------------------------------------------

    def _make_writers(self) -> None:
        """Makes the writers of a new timeline, in folders of its own where their names have a place for a number."""
        self._directory = unused_folder(posixpath.join(own_folder(self._log_dir), "gradcam"))
        self._replaces = holds_timeline(self._directory)
        built_in: list[Writer] = [TensorBoardWriter(self._directory, self._style)]
        if self._save_dir is not None:
            built_in.append(FolderWriter(own_folder(self._save_dir), self._style))
        self._writers = [*map(BackgroundWriter, built_in), *self._given_writers]

    def _prepare_writers(self, run: Run) -> None:
        """Begins a training in all writers; those that fail are left out of it."""
        self._open_writers = []
        try:
            for writer in self._writers:
                try:
                    writer.prepare(run)
                except ArgumentError:  # nothing can be written there
                    raise
                except Exception as error:
                    self._handle(error, writer)
                else:
                    self._open_writers.append(writer)
        except BaseException:
            self._close_writers()
            raise

    def _close_writers(self) -> None:
        with contextlib.ExitStack() as stack:  # closes them all, even if one raises
            for writer in reversed(self._open_writers):
                stack.callback(self._guarded, writer.close, source=writer)
            self._open_writers = []

    def _guarded(self, action: Callable[..., Any], *arguments: Any, source: BackgroundWriter | None = None) -> Any:
        """Runs what may fail in the middle of a training: a full disk must not cost the training."""
        try:
            return action(*arguments)
        except Exception as error:
            self._handle(error, source)
            return None

    def _handle(self, error: Exception, source: BackgroundWriter | None) -> None:
        """Raises an error, or warns of the first error of each source in a training."""
        if self._on_error == "raise" or (isinstance(error, ArgumentError) and not self._has_begun):
            raise error  # an argument that does not fit, if nothing is trained yet
        if source not in self._warned:
            self._warned.add(source)
            warn(
                f"GuidedGradCAMCallback could not {'log' if source is None else f'write with {source.name}'} and "
                f"training goes on: {type(error).__name__}: {error} (said once per training; on_error='raise' stops "
                "instead).",
                RuntimeWarning,
                stacklevel=3,
            )


def _raise(error: Exception) -> None:
    raise error
