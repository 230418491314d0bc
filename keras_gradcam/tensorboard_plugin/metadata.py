"""The tags and the description of a run, shared by those who write event files and those who read them.

The data of the tab have tags that start with ``gradcam_tab/``. Pictures and scalars for TensorBoard's own tabs have
other tags, because TensorBoard shows a tag that two plugins share in neither. Standard library only.

============================  ==================  =========================================================
tag                           step                content
============================  ==================  =========================================================
``gradcam_tab/run``           0, at every start   JSON, see :class:`RunInfo`
``gradcam_tab/pictures``      0, at every start   (N,) encoded pictures of the probes, for display
``gradcam_tab/partners``      0, at every start   (N,) the pictures that the probes are compared with, if any
``gradcam_tab/maps``          epoch               (N, h, w) raw Grad-CAM on its own grid, float16 or float32
``gradcam_tab/partner_maps``  epoch               (N, h, w) the maps of the partners; their grid may be another
``gradcam_tab/numbers``       epoch               (N, columns) float32, NaN for a value that is missing
``gradcam_tab/guided``        epoch               N encoded pictures, fetched one epoch at a time
============================  ==================  =========================================================

``gradcam_tab/start_maps``, ``start_partner_maps``, ``start_numbers`` and ``start_guided`` belong to the model before
its first epoch, at step 0. A probe and its partner are a pair.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .columns import COLUMNS

PLUGIN_NAME = "gradcam"

#: The number of epochs that TensorBoard keeps for this plugin by default.
SAMPLES = 1000

#: The version of the JSON of :class:`RunInfo`; a reader refuses later versions.
VERSION = 1

#: The largest number of probes, and of columns of numbers.
MOST_PROBES, MOST_COLUMNS = 4096, 1024

# Other limits of a description.
_LONGEST_TEXT, _MOST_METHODS = 1 << 16, 100

# --- tags of the tab ------------------------------------------------------------------------------------------------

RUN = "gradcam_tab/run"
PICTURES = "gradcam_tab/pictures"
PARTNERS = "gradcam_tab/partners"
MAPS = "gradcam_tab/maps"
PARTNER_MAPS = "gradcam_tab/partner_maps"
NUMBERS = "gradcam_tab/numbers"
GUIDED = "gradcam_tab/guided"
START_MAPS = "gradcam_tab/start_maps"
START_PARTNER_MAPS = "gradcam_tab/start_partner_maps"
START_NUMBERS = "gradcam_tab/start_numbers"
START_GUIDED = "gradcam_tab/start_guided"

# --- tags of TensorBoard's own tabs: Images, Scalars, Text ----------------------------------------------------------

#: What these tags begin with; the model before its first epoch has tags of its own.
PREFIX, START_PREFIX = "gradcam", "gradcam_start"

#: The report at the end of a training, Markdown.
REPORT = "gradcam/report"

#: Scalars about all probes together: similarities between the probes and their partners, scores of a retrieval.
PAIRS_GROUP, RETRIEVAL_GROUP = "gradcam_pairs", "gradcam_retrieval"

#: The numbers of each probe, and what is drawn at the end of a training. TensorBoard sorts groups by their names: means
#: and the overview stand first, filmstrips last.
PROBES_GROUP, SUMMARY_GROUP = "gradcam_probes", "gradcam_summary"


def picture_tag(name: str, start: bool = False) -> str:
    """Returns the tag of a picture in a group of its own, named "group/picture".

    Example:
        >>> picture_tag("filters/kernels"), picture_tag("filters/kernels", start=True)
        ('gradcam_filters/kernels', 'gradcam_start_filters/kernels')
    """
    return f"{START_PREFIX if start else PREFIX}_{name}"


def overview_tag(start: bool = False) -> str:
    """Returns the tag of the picture that shows all probes at one epoch."""
    return f"{START_PREFIX if start else PREFIX}/overview"


def probe_tag(index: int, start: bool = False) -> str:
    """Returns the tag of the panel of one probe at one epoch.

    Example:
        >>> probe_tag(3), probe_tag(3, start=True)
        ('gradcam/probe_03', 'gradcam_start/probe_03')
    """
    return f"{START_PREFIX if start else PREFIX}/probe_{index:02d}"


def query_tag(index: int, start: bool = False) -> str:
    """Returns the tag of the ranked list of one query.

    Example:
        >>> query_tag(3), query_tag(3, start=True)
        ('gradcam_ranking/query_03', 'gradcam_start_ranking/query_03')
    """
    return picture_tag(f"ranking/query_{index:02d}", start)


def filmstrip_tag(index: int) -> str:
    """Returns the tag of the filmstrip of one probe."""
    return f"{SUMMARY_GROUP}/filmstrip_{index:02d}"


def value_tag(column: str, index: int) -> str:
    """Returns the tag of the scalar of one column and one probe.

    Example:
        >>> value_tag("focus", 3)
        'gradcam_probes/focus/probe_03'
    """
    return f"{PROBES_GROUP}/{column}/probe_{index:02d}"


def mean_tag(column: str, start: bool = False) -> str:
    """Returns the tag of the mean of one column over the probes that have a value.

    Example:
        >>> mean_tag("focus"), mean_tag("focus", start=True)
        ('gradcam/focus_mean', 'gradcam_start/focus_mean')
    """
    return f"{START_PREFIX if start else PREFIX}/{column}_mean"


def missing_tag(column: str) -> str:
    """Returns the tag of the number of probes without a value in one column."""
    return f"{PREFIX}_missing/{column}"


def total_tag(name: str, start: bool = False) -> str:
    """Returns the tag of a scalar about all probes together.

    Example:
        >>> total_tag("similarity_gap"), total_tag("mean_ap"), total_tag("mean_ap", start=True)
        ('gradcam_pairs/similarity_gap', 'gradcam_retrieval/mean_ap', 'gradcam_start/mean_ap')
    """
    if start:
        return f"{START_PREFIX}/{name}"
    return f"{PAIRS_GROUP if name.startswith('similarity_') else RETRIEVAL_GROUP}/{name}"


def total_name(tag: str) -> str | None:
    """Returns the name that :func:`total_tag` made a tag of, or None for any other tag.

    Example:
        >>> total_name("gradcam_retrieval/mean_ap"), total_name("gradcam/focus_mean")
        ('mean_ap', None)
    """
    group, _, name = tag.partition("/")
    return name if group in (PAIRS_GROUP, RETRIEVAL_GROUP, START_PREFIX) else None


@dataclass(frozen=True)
class ProbeInfo:
    """The description of a probe.

    Attributes:
        label: Index of the true class, or None.
        region: Box (x0, y0, x1, y1) in input pixels, x1 and y1 exclusive, or None.
    """

    label: int | None = None
    region: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class ExplainedInfo:
    """The description of what is explained.

    Attributes:
        layer: Path of the explained layer.
        target: The explained score, in words.
        quantity: The name of the score, and the factor to show it with: a distance is logged with a minus sign.
        methods: Names of the maps that are computed.
        spans: From where to where the maps lie along height and width of the input, as shares of them; None where they
            lie over all of it.
    """

    layer: str | None = None
    target: str = ""
    quantity: tuple[str, float] = ("score", 1.0)
    methods: tuple[str, ...] = ()
    spans: tuple[tuple[float, float], ...] | None = None


@dataclass(frozen=True)
class RunInfo:
    """The description of a run, known before its first epoch.

    The JSON is an object with a key per attribute, those of ``explained`` among them, and ``version``; tuples are
    lists, the numbers of classes are strings, a probe is an object with ``label`` and ``region``. Keys may be added;
    readers ignore keys that they do not know. ``input_size`` and ``probes`` are required, the others have the defaults
    below.

    Attributes:
        input_size: Height and width of the model's input, in whose pixels the regions are given.
        probes: One per picture.
        explained: Layer, target, kind of score and methods.
        label: What a label is: "class" or "identity".
        colormap: The colour map that the user chose.
        scale: The scale that the user chose: "run" or "frame", see :class:`keras_gradcam.Style`.
        class_names: Number to name of the classes or identities; may be empty.
        every: Epochs from one logged epoch to the next.
        pairs: Whether each probe has a partner.
        columns: Names of the columns of the numbers.

    Example:
        >>> info = RunInfo((8, 8), (ProbeInfo(3),), class_names={3: "cat"})
        >>> RunInfo.from_json(info.to_json()) == info
        True
    """

    input_size: tuple[int, int]
    probes: tuple[ProbeInfo, ...]
    explained: ExplainedInfo = ExplainedInfo()
    label: str = "class"
    colormap: str = "inferno"
    scale: str = "run"
    class_names: Mapping[int, str] = field(default_factory=dict)
    every: int = 1
    pairs: bool = False
    columns: tuple[str, ...] = COLUMNS

    def to_json(self) -> str:
        """Returns the JSON that is stored."""
        return json.dumps(
            {
                "version": VERSION,
                "layer": self.explained.layer,
                "target": self.explained.target,
                "quantity": list(self.explained.quantity),
                "label": self.label,
                "methods": list(self.explained.methods),
                "spans": None if self.explained.spans is None else [list(span) for span in self.explained.spans],
                "input_size": list(self.input_size),
                "colormap": self.colormap,
                "scale": self.scale,
                "class_names": {str(index): name for index, name in self.class_names.items()},
                "every": self.every,
                "pairs": self.pairs,
                "columns": list(self.columns),
                "probes": [
                    {"label": probe.label, "region": None if probe.region is None else list(probe.region)}
                    for probe in self.probes
                ],
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> RunInfo:
        """Reads the JSON of :meth:`to_json`; unknown keys are ignored.

        Raises:
            ValueError: If the text is no such JSON, larger than :mod:`keras_gradcam.tensorboard_plugin.limits` allow,
                or of a later version.
        """
        try:
            stored = json.loads(text)
            version = _whole(stored["version"])
            info = cls(
                input_size=_size(stored["input_size"]),
                probes=tuple(_probe(probe) for probe in _at_most(MOST_PROBES, stored["probes"])),
                explained=_explained(stored),
                label=_text(stored.get("label") or "class"),
                colormap=_text(stored.get("colormap", "inferno")),
                scale=_text(stored.get("scale", "run")),
                class_names={_whole(int(index)): _text(name) for index, name in stored.get("class_names", {}).items()},
                every=max(1, _whole(stored.get("every", 1))),
                pairs=bool(stored.get("pairs", False)),
                columns=tuple(_text(column) for column in _at_most(MOST_COLUMNS, stored.get("columns", COLUMNS))),
            )
        except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"The run's description cannot be read ({type(error).__name__}: {error}).") from error
        if version > VERSION:
            raise ValueError(
                f"The run was written by a later version of keras_gradcam (format {version}, this one reads {VERSION})."
            )
        return info


def _explained(stored: Mapping[str, Any]) -> ExplainedInfo:
    return ExplainedInfo(
        layer=None if stored.get("layer") is None else _text(stored["layer"]),
        target=_text(stored.get("target") or ""),
        quantity=_quantity(*stored.get("quantity", ("score", 1.0))),
        methods=tuple(_text(method) for method in _at_most(_MOST_METHODS, stored.get("methods", ()))),
        spans=None if stored.get("spans") is None else _spans(*stored["spans"]),
    )


def _spans(*spans: Any) -> tuple[tuple[float, float], ...]:
    pairs = tuple((float(first), float(last)) for first, last in spans)
    if len(pairs) != 2 or not all(math.isfinite(first + last) and first < last for first, last in pairs):
        raise ValueError(f"spans {pairs}")
    return pairs


def _quantity(name: Any, factor: Any) -> tuple[str, float]:
    if not math.isfinite(factor):
        raise ValueError(f"a factor of {factor}")
    return _text(name), float(factor)


def _size(values: Any) -> tuple[int, int]:
    height, width = (_whole(value) for value in values)
    if height < 1 or width < 1:
        raise ValueError(f"input_size {values}")
    return height, width


def _probe(stored: Any) -> ProbeInfo:
    label, region = stored.get("label"), stored.get("region")
    if region is not None:
        x0, y0, x1, y1 = (float(value) for value in region)
        if not all(math.isfinite(value) for value in (x0, y0, x1, y1)):
            raise ValueError(f"region {region}")
        region = (x0, y0, x1, y1)
    return ProbeInfo(None if label is None else _whole(label), region)


def _whole(value: Any) -> int:
    """Returns a whole number that JavaScript can hold, too."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 2**53 or value != int(value):
        raise ValueError(f"{value!r:.40} is no whole number, or too large a one")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError(f"{value!r:.40} is no text of up to {_LONGEST_TEXT} characters")
    return value


def _at_most(most: int, values: Any) -> list[Any]:
    if not isinstance(values, (list, tuple)) or len(values) > most:
        raise ValueError(f"{values!r:.40} is no list of up to {most} values")
    return list(values)
