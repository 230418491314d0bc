"""Serves the tab: a fixed table of routes over TensorBoard's data provider.

==============================  ====================================================================
``/runs``                       JSON: runs, their descriptions and revisions
``/maps?run=``                  binary: the maps of all epochs
``/partner_maps?run=``          binary: the maps of the partners, if the probes have some
``/numbers?run=``               binary: the numbers of all epochs
``/pictures?run=``              binary: the probes' pictures
``/partners?run=``              binary: the partners' pictures
``/guided?run=&epoch=``         binary: the guided pictures of one epoch (-1: before the first)
``/index.js``, ...              the page
==============================  ====================================================================

Answers carry an ``ETag`` of their content; content that the browser already has is answered with 304.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import werkzeug
from tensorboard import errors
from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin

from . import metadata
from .reader import START, Reader, RunSummary, Series
from .wire import pack

_STATIC = Path(__file__).parent / "static"

_JAVASCRIPT, _CSS = "text/javascript; charset=utf-8", "text/css; charset=utf-8"

#: Name to content type; no other file is ever served.
STATIC_FILES = {
    "index.js": _JAVASCRIPT,
    "host.js": _JAVASCRIPT,
    "save.js": _JAVASCRIPT,
    "state.js": _JAVASCRIPT,
    "store.js": _JAVASCRIPT,
    "training.js": _JAVASCRIPT,
    "fetch.js": _JAVASCRIPT,
    "decode.js": _JAVASCRIPT,
    "maps.js": _JAVASCRIPT,
    "format.js": _JAVASCRIPT,
    "paint.js": _JAVASCRIPT,
    "dom.js": _JAVASCRIPT,
    "figure.js": _JAVASCRIPT,
    "curves.js": _JAVASCRIPT,
    "captions.js": _JAVASCRIPT,
    "gif.js": _JAVASCRIPT,
    "grid.js": _JAVASCRIPT,
    "classes.js": _JAVASCRIPT,
    "detail.js": _JAVASCRIPT,
    "controls.js": _JAVASCRIPT,
    "messages.js": _JAVASCRIPT,
    "colormaps.js": _JAVASCRIPT,
    "style.css": _CSS,
}


class GradCAMPlugin(base_plugin.TBPlugin):
    """The plugin, as TensorBoard calls it.

    Args:
        context: TensorBoard's ``TBContext``.
    """

    plugin_name = metadata.PLUGIN_NAME

    def __init__(self, context: Any) -> None:
        self._reader = Reader(context.data_provider)

    def is_active(self) -> bool:
        """Returns False: TensorBoard itself shows the tab when a run has data of this plugin."""
        return False

    def frontend_metadata(self) -> Any:
        """Returns the module of the page and the name of the tab."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Grad-CAM")

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """Returns the routes: path to WSGI application."""
        routes: dict[str, Callable[..., Any]] = {
            "/runs": self._runs,
            "/maps": self._maps,
            "/partner_maps": partial(self._maps, partners=True),
            "/numbers": self._numbers,
            "/pictures": self._pictures,
            "/partners": partial(self._pictures, partners=True),
            "/guided": self._guided,
        }
        for name, content_type in STATIC_FILES.items():
            routes[f"/{name}"] = partial(self._static, name, content_type)
        return {path: werkzeug.Request.application(_checked(route)) for path, route in routes.items()}

    def _static(self, name: str, content_type: str, request: werkzeug.Request) -> Any:
        return _answer(request, (_STATIC / name).read_bytes(), content_type)

    def _runs(self, request: werkzeug.Request) -> Any:
        runs = self._reader.runs(*_where(request))
        content = json.dumps({"runs": [_described(run) for run in runs]}, separators=(",", ":"))
        return _answer(request, content.encode(), "application/json")

    def _maps(self, request: werkzeug.Request, partners: bool = False) -> Any:
        return _answer_series(request, self._reader.maps(*_where(request), _run(request), partners))

    def _numbers(self, request: werkzeug.Request) -> Any:
        return _answer_series(request, self._reader.numbers(*_where(request), _run(request)))

    def _pictures(self, request: werkzeug.Request, partners: bool = False) -> Any:
        return _answer_pictures(request, self._reader.pictures(*_where(request), _run(request), partners))

    def _guided(self, request: werkzeug.Request) -> Any:
        epoch = _epoch(request)
        return _answer_pictures(request, self._reader.guided(*_where(request), _run(request), epoch))


def _checked(route: Callable[..., Any]) -> Callable[..., Any]:
    def checked(request: werkzeug.Request) -> Any:
        if request.method not in ("GET", "HEAD"):
            raise errors.InvalidArgumentError(f"Expected GET. Received: {request.method}.")
        return route(request)

    return checked


def _where(request: werkzeug.Request) -> tuple[Any, str]:
    # Imported here: importing it issues a DeprecationWarning of TensorBoard's own, which a user may have made an error.
    from tensorboard import plugin_util

    return plugin_util.context(request.environ), plugin_util.experiment_id(request.environ)


def _run(request: werkzeug.Request) -> str:
    if "run" not in request.args:
        raise errors.InvalidArgumentError("Expected the name of a run, `?run=...`. Received none.")
    return str(request.args["run"])


def _epoch(request: werkzeug.Request) -> int:
    text = request.args.get("epoch", "")
    # Stricter than int(), which accepts blanks, underscores and the digits of every script.
    if not (text == str(START) or (text.isascii() and text.isdigit() and len(text) < 19)):
        raise errors.InvalidArgumentError(f"Expected an epoch, `&epoch=12` or `&epoch={START}`. Received: {text!r}.")
    return int(text)


def _described(run: RunSummary) -> dict[str, Any]:
    # A run without partners may have those of an earlier training in the same folder.
    partners = run.tags if run.info is not None and run.info.pairs else frozenset()
    return {
        "name": run.name,
        "revision": run.revision,
        "last_epoch": run.last_epoch,
        "has": {
            "maps": not run.tags.isdisjoint((metadata.MAPS, metadata.START_MAPS)),
            "partner_maps": not partners.isdisjoint((metadata.PARTNER_MAPS, metadata.START_PARTNER_MAPS)),
            "guided": metadata.GUIDED in run.tags,
            "start_guided": metadata.START_GUIDED in run.tags,
            "pictures": metadata.PICTURES in run.tags,
            "partners": metadata.PARTNERS in partners,
        },
        "info": None if run.info is None else json.loads(run.info.to_json()),
        "error": run.error,
    }


def _answer_series(request: werkzeug.Request, series: Series | None) -> Any:
    if series is None:
        raise errors.NotFoundError("There is no such run, or it holds no such data.")
    parts, frames = [], []
    for step, array in zip(series.steps, series.arrays, strict=True):
        stored = array if array.dtype in (np.float16, np.float32) else array.astype(np.float32)
        parts.append(stored.astype(stored.dtype.newbyteorder("<"), copy=False).tobytes())
        frames.append([step, stored.dtype.itemsize, *stored.shape])
    header = {"frames": frames, "unreadable": series.unreadable}
    return _answer(request, pack(header, parts), "application/octet-stream")


def _answer_pictures(request: werkzeug.Request, pictures: list[bytes] | None) -> Any:
    if pictures is None:
        raise errors.NotFoundError("There are no such pictures.")
    return _answer(request, pack({}, pictures), "application/octet-stream")


def _answer(request: werkzeug.Request, content: bytes, content_type: str) -> Any:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = [("ETag", etag), ("Cache-Control", "no-cache, must-revalidate"), ("X-Content-Type-Options", "nosniff")]
    if etag in request.headers.get("If-None-Match", ""):
        return _NotModified(status=304, headers=headers, content_type=content_type)
    return http_util.Respond(request, content, content_type, headers=headers[:1])


class _NotModified(werkzeug.Response):
    """An answer without content but with a content type: TensorBoard warns of answers that have none."""

    def get_wsgi_headers(self, environ: Any) -> Any:
        headers = super().get_wsgi_headers(environ)
        headers["Content-Type"] = self.content_type
        return headers
