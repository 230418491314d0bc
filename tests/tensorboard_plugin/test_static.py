"""The page's pure parts in Node, against what Python computes."""

import base64
import graphlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import make_colormaps as colormaps
import numpy as np
import pytest
from scipy.stats import spearmanr

from keras_gradcam.drawing import overlays
from keras_gradcam.drawing import pixels as render
from keras_gradcam.drawing.colormaps import color_table
from keras_gradcam.grids import upsample
from keras_gradcam.tensorboard_plugin import server as app
from keras_gradcam.tensorboard_plugin.wire import pack

TESTS = Path(__file__).parents[1] / "js"
NODE = shutil.which("node")
MODULES = sorted(name for name in app.STATIC_FILES if name.endswith(".js"))
needs_node = pytest.mark.skipif(NODE is None, reason="The page's own tests need Node.js, and there is no `node`")


def cases(rng):
    """Inputs and results, as JSON."""
    sizes = [(7, 7, 28, 28), (14, 10, 33, 50), (1, 1, 4, 4), (5, 3, 2, 2), (1, 6, 9, 6)]
    grids = [(rng.uniform(0, 3, (h, w)).astype(np.float32), size) for h, w, *size in sizes]
    pictures = []
    for (grid, size), name in zip(grids * 2, [*colormaps.NAMES] * 2, strict=True):
        grid = grid.copy()
        if len(pictures) == 3:
            grid[0, 0] = np.nan
        picture = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        vmax = float(rng.uniform(0, 4)) if len(pictures) != 4 else 0.0
        drawn = overlays.overlay(picture, grid, vmax, render.Style(colormap=name))
        values = [None if np.isnan(value) else float(value) for value in grid.ravel()]
        pictures.append({
            "map": values, "h": grid.shape[0], "w": grid.shape[1], "height": size[0], "width": size[1], "vmax": vmax,
            "picture": picture.ravel().tolist(), "colormap": name, "result": drawn.ravel().tolist(),
        })  # fmt: skip
    pairs = [rng.integers(0, 4, (2, 30)).astype(float) for _ in range(5)] + [rng.normal(size=(2, 49)) for _ in range(5)]
    arrays = [np.arange(6, dtype=np.float16).reshape(1, 2, 3), np.full((1, 2, 3), 1e-3, np.float32), np.ones((2, 1, 1))]
    parts = [array.astype(array.dtype if array.dtype != float else np.float16) for array in arrays]
    frames = [[step, part.dtype.itemsize, *part.shape] for step, part in zip((-1, 0, 7), parts, strict=True)]
    body = pack({"frames": frames, "unreadable": 2}, [part.tobytes() for part in parts])
    with np.errstate(invalid="ignore"):
        halves = np.arange(65536, dtype=np.uint16).view(np.float16).astype("<f4")
    return {
        "halves": base64.b64encode(halves.tobytes()).decode(),
        "upsample": [
            {"map": grid.ravel().tolist(), "h": grid.shape[0], "w": grid.shape[1], "height": size[0], "width": size[1],
             "spans": spans, "result": upsample(grid[None], size, spans)[0].ravel().tolist()}
            for grid, size in grids
            for spans in (None, ((0.25, 0.75), (0.0, 1.0)), ((-0.3, 1.1), (0.1, 0.93)))
        ],
        "overlay": pictures,
        "tables": {name: color_table(name).ravel().tolist() for name in colormaps.NAMES},
        "spearman": [{"a": a.tolist(), "b": b.tolist(), "result": spearmanr(a, b).statistic} for a, b in pairs],
        "series": {"body": base64.b64encode(body).decode(), "values": [part.ravel().tolist() for part in parts]},
    }  # fmt: skip


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    """The page's modules where Node takes them for modules: beside a package.json that says so."""
    folder = tmp_path_factory.mktemp("page") / "static"
    shutil.copytree(app._STATIC, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def node(*arguments, **environment):
    result = subprocess.run(
        [NODE, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    return result.stdout


@needs_node
def test_in_node(static, tmp_path, rng):
    (tmp_path / "cases.json").write_text(json.dumps(cases(rng)))
    files = sorted(TESTS.glob("*.test.mjs"))
    environment = {"GRADCAM_STATIC": str(static), "GRADCAM_CASES": str(tmp_path / "cases.json")}
    shown = node("--test", "--test-reporter=tap", *map(str, files), **environment)
    assert "# fail 0" in shown
    titles = [title for file in files for title in re.findall(r'^test\("(.+?)"', file.read_text(), re.MULTILINE)]
    assert len(titles) >= 30
    for title in titles:
        assert title.replace("#", "\\#") in shown


@needs_node
def test_every_module_finds_what_it_imports(static):
    imports = "\n".join(f"import {json.dumps(str(static / name))};" for name in MODULES)
    (static / "all.mjs").write_text(imports)
    node(str(static / "all.mjs"))


def test_modules_import_no_circle_and_nothing_unused():
    graph = {}
    for name in MODULES:
        source = (app._STATIC / name).read_text()
        found = re.findall(r'^import \{([^}]+)\} from "\./([a-z]+\.js)";', source, re.MULTILINE)
        assert len(found) == source.count("\nimport ")
        graph[name] = {module for _, module in found}
        for word in ", ".join(names for names, _ in found).split(", "):
            assert word == "" or len(re.findall(rf"\b{word.strip()}\b", source)) > 1, f"{name}: {word}"
    assert list(graphlib.TopologicalSorter(graph).static_order())[-1] == "index.js"


def test_the_colour_tables_are_the_renderers():
    assert (app._STATIC / "colormaps.js").read_text() == colormaps.javascript()


@pytest.mark.parametrize("name", sorted(app.STATIC_FILES))
def test_text_stays_text_and_nothing_comes_from_elsewhere(name):
    source = (app._STATIC / name).read_text()
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "https://", "@import"):
        assert forbidden not in source
    assert "http://" not in source.replace("http://www.w3.org/2000/svg", "")
