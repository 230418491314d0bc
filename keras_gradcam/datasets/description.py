"""What all rows of a folder depend on: written beside them, and compared before more are added."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..attribution.methods.sampling import samplers
from ..attribution.targets.base import Target
from ..engine import current_engine
from ..engine.model import weights_digest
from ..errors import ArgumentError
from ..files import check_file, file_digest, open_regular, replace_whole
from ..pictures.depth import read_range
from ..pictures.spec import PictureSpec, read_size, warn_about_pixels
from ..version import __version__
from .batch import ExplainBatch
from .plan import Plan

#: The file that describes a run. Programs that read a folder of Parquet leave files out that begin like this.
RUN = "_run.json"

# The largest description that is read, in bytes.
_LARGEST = 64 << 20

# What is compared, in this order.
_KEYS = ("model", "settings", "made_with")


@dataclass(frozen=True, eq=False)
class Prepared:
    """What is found out about a run before its first picture, where the model is.

    Attributes:
        description: What all rows depend on, ready for JSON.
        plan: What all rows have in common.
        spec: The pictures that the model takes.
        warnings: What to warn of.
    """

    description: Mapping[str, Any]
    plan: Plan
    spec: PictureSpec
    warnings: Sequence[str]


def prepare(explain_batch: ExplainBatch, parts: int, class_names: Mapping[int, str]) -> Prepared:
    """Loads the model and finds out whether all options fit it.

    Args:
        explain_batch: What is done to every row.
        parts: How many processes share the work.
        class_names: Number to name of the classes that have one.

    Raises:
        ArgumentError: If one does not fit.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        session = explain_batch.session
        warn_about_pixels(session.explainer.model, explain_batch.preprocess)
    texts = [str(warning.message) for warning in caught if "keras_gradcam" in warning.filename]
    return Prepared(_described(explain_batch, parts, class_names), session.plan, session.spec, texts)


def _described(explain_batch: ExplainBatch, parts: int, class_names: Mapping[int, str]) -> dict[str, Any]:
    """Describes a run, ready for JSON.

    Args:
        explain_batch: What is done to every row.
        parts: How many processes share the work.
        class_names: Number to name of the classes that have one.
    """
    session, model = explain_batch.session, explain_batch.model
    plan, spec = session.plan, session.spec
    if isinstance(model, str) and os.path.isfile(model):
        digest = file_digest(model)
    else:
        digest = weights_digest(session.explainer.model)
    return {
        "made_with": {"keras_gradcam": __version__, **current_engine().versions()},
        "model": {
            "source": model if isinstance(model, str) else session.explainer.model.name,
            "sha256": digest,
        },
        "settings": {
            "target": explain_batch.target if isinstance(explain_batch.target, str) else plan.target,
            "target_sha256": _target_digest(session.explainer.target),
            "layer": plan.layer,
            "methods": list(session.explainer.methods),
            "sampling": {name: repr(sampler) for name, sampler in samplers(explain_batch.methods).items()},
            "preprocess": spec.preprocessing.name,
            "size": list(spec.size),
            "value_range": None if spec.values is None else list(spec.values),
            "embedding": explain_batch.embedding,
            "columns": dict(explain_batch.columns),
            "shards": parts,
        },
        "channels": spec.channels,
        "plan": plan.to_json(),
        "class_names": {str(number): name for number, name in class_names.items()},
    }


def _target_digest(target: Target) -> str | None:
    """Returns the SHA-256 of a target for embeddings: what it compares them with does not show in its text."""
    return hashlib.sha256(pickle.dumps(target)).hexdigest() if target.is_embedding else None


def agree_on(folder: Path, description: Mapping[str, Any], overwrite: bool = False) -> None:
    """Writes the description of a run to its folder, or compares it with the one that is there.

    Args:
        folder: The folder.
        description: The description.
        overwrite: Whether it takes the place of another one.

    Raises:
        ArgumentError: If the folder holds results of something else.
    """
    if overwrite or not (folder / RUN).exists():
        content = json.dumps(description, ensure_ascii=True, allow_nan=False, indent=1).encode()
        replace_whole(folder / RUN, content)
    # Another process of the same run may have been faster.
    differences = describe_differences(read_description(folder), description, _KEYS)
    if differences:
        raise ArgumentError(
            "out",
            "hold no results of something else",
            f"{str(folder)!r} ({'; '.join(differences)})",
            ["another folder", "`overwrite`"],
        )


def read_description(folder: Path) -> dict[str, Any]:
    """Reads the description of a run.

    Raises:
        ArgumentError: If the folder has none, or one that cannot be read.
    """
    cause: Exception | None = None
    try:
        check_file(folder / RUN, _LARGEST)
        with open_regular(folder / RUN) as file:
            value = json.loads(file.read())
        Plan.from_json(value["plan"])
        complete = all(isinstance(value[key], dict) for key in (*_KEYS, "class_names")) and _are_pictures(value)
    except FileNotFoundError as error:
        received = f"{str(folder)!r}, without {RUN}"
        raise ArgumentError("path", "be a folder that explain_dataset wrote to", received) from error
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        complete, cause = False, error
    if not complete:
        raise ArgumentError("path", f"have a {RUN} that can be read", repr(str(folder))) from cause
    return value


def _are_pictures(description: Mapping[str, Any]) -> bool:
    """Returns whether a description that was read says which pictures the model takes."""
    settings = description["settings"]
    read_size(settings["size"])
    read_range(settings["value_range"])
    return isinstance(settings["size"], list) and description["channels"] in (1, 3)


def describe_differences(before: Mapping[str, Any], now: Mapping[str, Any], parts: Sequence[str]) -> list[str]:
    """Describes in a few words where parts of two descriptions differ; where a model lies does not count."""
    differences = []
    for part in parts:
        for key in sorted({*before[part], *now[part]} - {"source"}):
            old, new = before[part].get(key), now[part].get(key)
            if old != new:
                differences.append(f"{key.replace('_', ' ')}: {shortened(old)}, not {shortened(new)}")
    return differences


def shortened(value: Any) -> str:
    """Returns a value as text, cut where it is long."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"
