"""Models from files and from keras.applications, without ever running code that a file brings along."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import urllib.parse
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...engine import quiet_start
from ...engine.model import weights_digest
from ...errors import in_one_line
from ...files import check_file, file_digest
from ...pictures.preprocessing import Preprocessing, modules, read_preprocessing
from ...pictures.spec import PictureSpec, picture_spec, warn_about_pixels
from ..errors import CommandError
from ..files import LARGEST_TEXT
from .imports import check_files, import_all


@dataclass(frozen=True, eq=False)
class Network:
    """A loaded model.

    Attributes:
        keras_model: The model itself, not compiled.
        source: What was typed, with the full path of a file.
        digest: SHA-256 of the file, or of the weights of a network of keras.applications.
        preprocessing: What a network of keras.applications needs to be done to pixels from 0 to 255, or None.
        is_imagenet: Whether it is known to have ImageNet's classes.
        imports: Path of every file of the user's own code to its SHA-256.
    """

    keras_model: Any
    source: str
    digest: str
    preprocessing: Preprocessing | None = None
    is_imagenet: bool = False
    imports: Mapping[str, str] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """Describes the model in the manifest of results."""
        imports = {"imports": dict(self.imports)} if self.imports else {}
        return {"source": self.source, "sha256": self.digest, **imports}


def load(source: str, imports: Sequence[str] = ()) -> Network:
    """Loads a model.

    Args:
        source: A .keras or .h5 file, or app:NAME.
        imports: Files and modules of the user's own code that define parts of the model.

    Raises:
        CommandError: If there is no such model, or it cannot be loaded safely.
    """
    is_file = not source.startswith("app:")
    if is_file:
        _check_file(source)
    check_files(imports)
    quiet_start()
    own = import_all(imports)
    if not is_file:
        return replace(_from_applications(source), imports=own.digests)
    loaded = _from_file(source, own.objects, imports)
    return Network(loaded, str(Path(source).absolute()), file_digest(source), imports=own.digests)


def spec_of(network: Network, options: argparse.Namespace) -> PictureSpec:
    """Finds out which pictures a model takes, with the options of the command line about them.

    Raises:
        ValueError: If the options do not fit the model.
    """
    preprocess = network.preprocessing if options.preprocess is None else options.preprocess
    spec = picture_spec(network.keras_model, preprocess, options.size, options.range, options.max_file_size << 20)
    warn_about_pixels(network.keras_model, preprocess)
    return spec


# --- files ----------------------------------------------------------------------------------------------------------


def _check_file(source: str) -> None:
    """Raises CommandError for a file that is no model, before Keras is imported."""
    path = Path(source)
    if not path.exists():
        raise CommandError(f"no such model: {source!r}. Candidates: a .keras or .h5 file, app:MobileNetV2.")
    if path.is_dir():
        raise CommandError(
            f"MODEL must be a .keras or .h5 file. Received: {source!r}, a folder (a SavedModel?), which Keras 3 does "
            "not load. Candidates: load it with the Keras that saved it, then model.save('model.keras')."
        )
    kind = path.suffix.lower()
    if source.endswith(".weights.h5"):
        raise CommandError(
            f"MODEL must be a whole model. Received: {source!r}, weights alone. "
            "Candidates: build the model in Python, model.load_weights(...), model.save('model.keras')."
        )
    if kind not in (".keras", ".h5", ".hdf5"):
        raise CommandError(f"MODEL must be a .keras or .h5 file. Received: {source!r}.")
    try:
        check_file(path)
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise CommandError(f"MODEL cannot be read: {error.strerror}: {source!r}.") from error
    if kind == ".keras" and not zipfile.is_zipfile(path):
        raise CommandError(
            f"MODEL cannot be read: {source!r} is no .keras file, or one that was not written to its end."
        )
    if kind == ".keras":
        _check_keras(path)
    else:
        _check_hdf5(path)


def _check_keras(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as file:
            sizes = {entry.filename: entry.file_size for entry in file.infolist()}
            _check_sizes(path, sizes)
            config = json.loads(file.read("config.json"))
    except CommandError:
        raise
    except Exception:  # Keras says what is wrong
        return
    # Code that is imported can turn Keras' safe mode off for the whole process; this it cannot.
    if _holds_code(config):
        raise CommandError(_UNSAFE)


def _check_sizes(path: Path, sizes: Mapping[str, int]) -> None:
    """Raises CommandError for an archive that unfolds to far more than it is: Keras stores weights as they are."""
    texts = max((size for name, size in sizes.items() if name.endswith(".json")), default=0)
    if texts > LARGEST_TEXT or sum(sizes.values()) > LARGEST_TEXT + _MOST_UNFOLDED * path.stat().st_size:
        raise CommandError(
            f"MODEL unfolds to {sum(sizes.values()) >> 20} MB, {texts >> 20} MB of them configuration, which no model "
            f"has, and is not loaded: {str(path)!r}. Candidates: keras_gradcam.explain in Python for a model you trust."
        )


def _check_hdf5(path: Path) -> None:
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
            holds_code = config is not None and _holds_code(json.loads(config))
    except (RecursionError, TypeError, ValueError) as error:
        raise CommandError(f"MODEL cannot be read: {str(path)!r} is damaged: {in_one_line(error)}.") from error
    except (OSError, RuntimeError) as error:
        raise CommandError(
            f"MODEL cannot be read: {str(path)!r} is no HDF5 file, or one that was not written to its end."
        ) from error
    if config is None:
        raise CommandError(
            f"MODEL must be a whole model. Received: {str(path)!r}, weights alone. "
            "Candidates: build the model in Python, model.load_weights(...), model.save('model.keras')."
        )
    # Not every release of Keras has a safe mode for these files.
    if holds_code:
        raise CommandError(_UNSAFE)


# How many times its own size an archive may unfold to.
_MOST_UNFOLDED = 20

_UNSAFE = (
    "MODEL holds a Lambda layer with pickled Python code, which could do anything to this machine, and is not loaded. "
    "Candidates: a layer of your own instead of the Lambda; or keras_gradcam.explain in Python for a model you trust."
)


def _holds_code(config: Any) -> bool:
    """Returns whether a configuration holds pickled Python code."""
    if isinstance(config, dict):
        function = config.get("function")
        pickled = config.get("function_type") == "lambda" or isinstance(function, list)
        return pickled or config.get("class_name") == "__lambda__" or any(map(_holds_code, config.values()))
    return isinstance(config, list) and any(map(_holds_code, config))


# What releases of Keras print of a layer or function they do not know, in .keras and in HDF5 files.
_UNKNOWN = re.compile(
    r"(?:Could not (?:locate|deserialize) (?:class|function)|Unknown [a-z ]+:) '([^']+)'"
    r"|Could not interpret [a-z ]+ identifier: (?:\{.*?'class_name': '(?:function', 'config': ')?)?([\w>]+)"
)


def _from_file(source: str, objects: Mapping[str, Any], imports: Sequence[str]) -> Any:
    import keras

    try:
        # Compiling would need the loss and the metrics of whoever trained the model, and is of no use here.
        return keras.saving.load_model(source, custom_objects=dict(objects), compile=False, safe_mode=True)
    except Exception as error:
        text = str(error)
        if "ambda" in text and "safe" in text:
            raise CommandError(_UNSAFE) from error
        unknown = _UNKNOWN.search(text)
        if unknown:
            name = (unknown[1] or unknown[2]).split(">")[-1]
            # Keras knows registered classes by the name they were registered under, not by that of the class.
            registered = re.search(rf"'([^'>]+>{re.escape(name)})'", text)
            registration = f" (it was registered as {registered[1]!r})" if registered else ""
            tried = f", not even after --import {' --import '.join(imports)}" if imports else ""
            raise CommandError(
                f"MODEL is made of {name!r}, which Keras does not know{tried}{registration}. "
                "Candidates: --import FILE.py (or a module), where it is defined."
            ) from error
        # Keras puts the whole configuration before what is wrong.
        raise CommandError(
            f"MODEL cannot be loaded: {in_one_line(text.split('Exception encountered:')[-1])}"
        ) from error


# --- keras.applications ---------------------------------------------------------------------------------------------


def _from_applications(source: str) -> Network:
    import keras

    name, _, query = source.removeprefix("app:").partition("?")
    options = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    weights = options.pop("weights", "imagenet")
    if options or weights not in ("imagenet", "none"):
        raise CommandError(
            f"MODEL must be app:NAME, app:NAME?weights=imagenet or app:NAME?weights=none. Received: {source!r}."
        )
    builders: dict[str, Callable[..., Any]] = {
        key: value for key, value in vars(keras.applications).items() if callable(value) and key[0].isupper()
    }
    if name not in builders:
        near = difflib.get_close_matches(name.lower(), [key.lower() for key in builders], 5, 0.4)
        listed = [key for key in builders if key.lower() in near] or sorted(builders)
        raise CommandError(
            f"keras.applications has no {name!r}. Candidates: {', '.join(f'app:{key}' for key in listed)}."
        )
    module = next(key for key, value in modules().items() if hasattr(value, name))
    # Random weights are the same each time, so that an interrupted run can go on.
    keras.utils.set_random_seed(0)
    try:
        network = builders[name](weights=None if weights == "none" else weights)
    except Exception as error:  # a download fails in many ways
        raise CommandError(
            f"the weights of {name} could not be downloaded: {in_one_line(error)}. "
            f"Candidates: a file of your own, app:{name}?weights=none."
        ) from error
    return Network(network, source, weights_digest(network), read_preprocessing(module), weights == "imagenet")
