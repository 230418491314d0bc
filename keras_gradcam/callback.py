"""GuidedGradCAMCallback: explain a fixed probe batch at the end of every epoch.

The callback decides when, which samples and which sinks; everything else happens elsewhere.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from .engine.base import Outputs, Structure
from .explainer import Explainer, Explanation
from .layers import LayerLike, explained_input, signature_of
from .predictions import class_probabilities
from .probe import take_probe
from .render import Frame, Style, displayed
from .sinks.background import BackgroundSink
from .sinks.base import Record
from .sinks.files import FileSink
from .sinks.tensorboard import TensorBoardSink
from .targets import Class, Output, Target, TargetLike, as_target

# Class names longer than this are shortened in captions.
_NAME_LENGTH = 28


class GuidedGradCAMCallback(keras.callbacks.Callback):
    """Logs to TensorBoard what the model looks at, for the same pictures after every epoch.

    Before the first epoch and at the end of each one, Grad-CAM, guided backpropagation and guided Grad-CAM of the probe
    are computed with the weights of the moment: a panel per picture and an overview of all in the Images tab, the
    explained score and its probability in Scalars. Training is not touched: the weights come out bit for bit as
    without the callback. What cannot work raises when training begins; what fails later warns once, and training goes
    on.

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
        methods: Which maps to compute; "gradcam" alone costs little more than a forward pass.
        every: Log every so many epochs; the last one is always logged.
        max_probes: How many pictures to take at most.
        style: Colours and scale of the maps.
        save_dir: A folder in which ``overview.png`` always shows the latest logged epoch.
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
        methods: Sequence[str] = ("gradcam", "guided_backprop", "guided_gradcam"),
        every: int = 1,
        max_probes: int = 16,
        style: Style | None = None,
        save_dir: str | os.PathLike[str] | None = None,
        on_error: str = "warn",
    ) -> None:
        super().__init__()
        for name, number in (("every", every), ("max_probes", max_probes)):
            if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
                raise ValueError(f"`{name}` must be a whole number >= 1. Received: {number!r}.")
        if on_error not in ("warn", "raise"):
            raise ValueError(f"`on_error` must be 'warn' or 'raise'. Received: {on_error!r}.")
        self._probe = take_probe(probe, int(max_probes))
        self._target = self._chosen_target(target)
        self._options = {"layer": layer, "layer_call": layer_call, "methods": methods}
        self._class_names = _names_by_number(class_names)
        self._pictures = _pictures(display_images, len(self._probe))
        self._every = int(every)
        self._on_error = on_error
        style = style or Style()
        self._per_frame = style.scale == "frame"
        sinks = [TensorBoardSink(os.path.join(os.fspath(log_dir), "gradcam"), style)]
        if save_dir is not None:
            sinks.append(FileSink(os.fspath(save_dir), style))
        self._sinks = [BackgroundSink(sink) for sink in sinks]
        self._explainer: Explainer | None = None
        self._tops = np.zeros(len(self._probe))
        self._begun = self._warned = False
        self._epoch = self._logged = -1

    # --- when -------------------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks everything that can be known to be wrong, before anything is trained."""
        self._begun = self._warned = False
        self._epoch = self._logged = -1
        if self._explainer is None or self._explainer.model is not self.model:
            self._explainer = Explainer(self.model, target=self._target, **self._options)
        self._outputs = self._explainer.outputs(self._probe.images)
        self._check_class_names(self._outputs)
        if self._pictures is None:
            self._pictures = displayed(self._explained_pictures())
        for sink in self._sinks:
            sink.prepare()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the model before its first epoch; by now a resumed training has its weights back."""
        if not self._begun and epoch == 0:
            self._log(epoch, start=True)
        self._begun = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the epoch if it is due or the last."""
        self._epoch = epoch
        last = epoch + 1 == (self.params or {}).get("epochs") or getattr(self.model, "stop_training", False)
        if (epoch + 1) % self._every == 0 or last:
            self._log(epoch)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes what is left. A training that another callback ended early gets its last epoch."""
        # A callback that restores weights at the end of training and stands before this one has also set
        # `stop_training` before this one's `on_epoch_end`: the weights here are those of the last epoch.
        if self._logged != self._epoch:
            self._log(self._epoch)
        for sink in self._sinks:
            self._guarded(sink.close)

    # --- what -------------------------------------------------------------------------------------------------------

    def _log(self, epoch: int, start: bool = False) -> None:
        self._logged = epoch if not start else self._logged
        self._guarded(lambda: self._write(epoch, start))

    def _write(self, epoch: int, start: bool) -> None:
        explainer = self._explainer
        if explainer is None:
            return
        explanation = explainer(self._probe.images)
        record = self._record(explanation, epoch, start)
        for sink in self._sinks:
            sink.write(record)

    def _record(self, explanation: Explanation, epoch: int, start: bool) -> Record:
        title = "start" if start else f"epoch {epoch}"
        probabilities = _probabilities(explanation.predictions, self._outputs, self._target)
        if explanation.gradcam is not None:
            strongest = np.nan_to_num(explanation.gradcam.reshape(len(explanation), -1)).max(axis=1)
            self._tops = np.maximum(self._tops, strongest) if not self._per_frame else strongest
        frames = tuple(self._frame(explanation, number, probabilities, title) for number in range(len(explanation)))
        return Record(epoch, frames, title, _scalars(explanation, probabilities, start), start)

    def _frame(self, explanation: Explanation, number: int, probabilities: np.ndarray | None, title: str) -> Frame:
        label = None if self._probe.labels is None else int(self._probe.labels[number])
        explained = None if explanation.classes is None else int(explanation.classes[number])
        caption, short, wrong = [], [], False
        if label is not None:
            caption.append(f"truth: {self._name(label)}")
        if probabilities is not None:
            predicted = int(probabilities[number].argmax())
            said = f"{self._name(predicted)} {probabilities[number, predicted]:.2f}"
            wrong = label is not None and predicted != label
            caption.append(f"predicted: {said}")
            short.append(said if label is None or not wrong else f"{said} (truth: {self._name(label)})")
        caption.append(f"explained: {self._target!r}" if explained is None else f"explained: {self._name(explained)}")
        caption += [title, f"score {explanation.scores[number]:.3g}"]
        if explanation.gradcam is not None:
            scale = " (this frame)" if self._per_frame else ""
            caption.append(f"top {self._tops[number]:.3g}{scale}")
        if wrong:
            caption.append("wrong")
        maps = {name: getattr(explanation, name) for name in ("gradcam", "guided_backprop", "guided_gradcam")}
        return Frame(
            picture=self._pictures[number],
            caption=tuple(caption),
            short=tuple(short),
            top=float(self._tops[number]),
            wrong=wrong,
            **{name: None if array is None else array[number] for name, array in maps.items()},
        )

    def _name(self, number: int) -> str:
        name = self._class_names.get(number, str(number)) if self._class_names else str(number)
        if len(name) <= _NAME_LENGTH:
            return name
        return f"{name[: _NAME_LENGTH // 2]}…{name[-(_NAME_LENGTH // 2 - 1) :]}"

    # --- checks -----------------------------------------------------------------------------------------------------

    def _chosen_target(self, target: TargetLike) -> Target:
        if target is None and self._probe.labels is not None:
            return Class(self._probe.labels)
        return as_target(target)

    def _explained_pictures(self) -> np.ndarray:
        signature = signature_of(self._probe.images)
        images = keras.tree.flatten(self._probe.images)[explained_input(signature)]
        if images.ndim != 4:
            raise ValueError(
                f"`probe` must hold pictures, shape (N, H, W, C). Received: shape {images.shape}. "
                "Candidates: for series and volumes use keras_gradcam.Explainer, or give `display_images`."
            )
        return images

    def _check_class_names(self, outputs: Outputs) -> None:
        shape = getattr(_explained_output(outputs, self._target).predictions, "shape", ())
        if not self._class_names or len(shape) != 2:
            return
        classes = max(shape[1], 2)
        if set(self._class_names) != set(range(classes)):
            raise ValueError(
                f"`class_names` must name the classes 0 to {classes - 1} of the model. "
                f"Received: {len(self._class_names)} names. Candidates: a list of {classes} names."
            )

    def _guarded(self, action: Callable[[], None]) -> None:
        """Runs what may fail in the middle of a training: a full disk must not cost the training."""
        try:
            action()
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


def _names_by_number(names: Sequence[str] | Mapping[int, str] | None) -> dict[int, str]:
    if names is None:
        return {}
    if isinstance(names, str):
        raise ValueError(f"`class_names` must be a list or a dict of names. Received: the text {names!r}.")
    items = names.items() if isinstance(names, Mapping) else enumerate(names)
    return {int(number): str(name) for number, name in items}


def _pictures(images: Any, samples: int) -> np.ndarray | None:
    """The given pictures, one per probe, ready for display."""
    if images is None:
        return None
    pictures = np.asarray(images)
    if pictures.ndim not in (3, 4) or len(pictures) < samples:
        raise ValueError(
            f"`display_images` must hold one picture per probe, shape ({samples}, H, W, 3). "
            f"Received: shape {pictures.shape}."
        )
    return displayed(pictures[:samples])


def _explained_output(outputs: Outputs, target: Target) -> Outputs:
    return target.narrow(outputs) if isinstance(target, Output) else outputs


def _probabilities(predictions: Structure, outputs: Outputs, target: Target) -> np.ndarray | None:
    """Class probabilities (N, K) of the explained output, or None if it has no classes."""
    said = _explained_output(replace(outputs, predictions=predictions), target)
    return class_probabilities(said.predictions, said.endings)


def _scalars(explanation: Explanation, probabilities: np.ndarray | None, start: bool) -> dict[str, float]:
    """Score and probability of what is explained, per probe and their mean; of the start only the means."""
    series = {"score": explanation.scores}
    if probabilities is not None and explanation.classes is not None:
        series["probability"] = probabilities[np.arange(len(explanation)), explanation.classes]
    scalars: dict[str, float] = {}
    for name, values in series.items():
        if start:
            scalars[f"gradcam_start/{name}_mean"] = float(np.mean(values))
            continue
        scalars[f"gradcam_{name}/mean"] = float(np.mean(values))
        scalars.update({f"gradcam_{name}/probe_{number:02d}": float(value) for number, value in enumerate(values)})
    return scalars
