"""The tab in a real browser, against a live TensorBoard without TensorFlow and with a broken Keras."""

import base64
import contextlib
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.parse import quote

import numpy as np
import pytest
import tab_runs
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.scalar.metadata import create_summary_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto

from keras_gradcam.drawing import overlays
from keras_gradcam.drawing import pixels as render
from keras_gradcam.grids import upsample
from keras_gradcam.tensorboard_plugin import summary

HOSTILE = '<img src=x onerror="window.hacked=1">'
LONG = "long'\"&" * 1430
ARABIC = "\u202eقطة \u0627\u0644\u0642\u0637\u0629"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --window-size=1280,900"
)


def missing():
    """Why there can be no browser, or None."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    return None


_WHY = missing()
if _WHY and os.environ.get("KERAS_GRADCAM_REQUIRE_BROWSER") == "1":
    raise RuntimeError(f"KERAS_GRADCAM_REQUIRE_BROWSER=1, but {_WHY}")
pytestmark = pytest.mark.skipif(_WHY is not None, reason=f"The tab's browser tests need Chromium: {_WHY}")


class TensorBoard:
    """A live process on a free port."""

    def __init__(self, folder, *arguments, prefix=""):
        folder.mkdir(parents=True, exist_ok=True)
        for name, error in (("keras", "RuntimeError"), ("tensorflow", "ImportError")):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "__init__.py").write_text(f"raise {error}('sabotaged')\n")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}{prefix}"
        self.log = folder / "log.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tensorboard.main", *arguments, "--host=127.0.0.1", f"--port={port}",
                 "--reload_interval=1", f"--path_prefix={prefix}"],
                stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(folder)},
            )  # fmt: skip

    def wait(self):
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/data/plugins_listing") as answer:
                assert b'"gradcam"' in answer.read()
                return self
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def close(self):
        self.process.terminate()
        self.process.wait(20)


def pairs():
    """Maps of three pairs; at epoch 2 a partner's map is zero."""
    maps, partner_maps = tab_runs.moving_maps(6, 3, (16, 8), seed=3), tab_runs.moving_maps(6, 3, (6, 3), seed=4)
    partner_maps[3, 1] = 0
    return maps, partner_maps


def write_scalars(folder, scalars):
    """Writes scalars by epoch, as Keras' own callback does."""
    writer = EventFileWriter(str(folder))
    for tag, values in scalars.items():
        for step, value in enumerate(values):
            tensor = make_tensor_proto(np.float32(value))
            metadata = create_summary_metadata(display_name="", description="")
            written = Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)])
            writer.add_event(Event(wall_time=time.time(), step=step, summary=written))
    writer.close()


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("logs")
    tab_runs.write_run(logdir / "clean" / "gradcam", epochs=12, probes=6, regions=True)
    tab_runs.write_run(logdir / "hans" / "gradcam", epochs=12, probes=6, seed=1)
    tab_runs.write_run(logdir / "other" / "gradcam", epochs=4, probes=4, grid=(5, 3), size=(28, 20), seed=2,
                       guided=False, start=False)  # fmt: skip
    special = tab_runs.moving_maps(3, 4, (4, 4))
    special[2, 0], special[2, 1, 0, 0], special[2, 2, 1, 1] = 0, np.nan, np.inf
    tab_runs.write_run(
        logdir / (quote(HOSTILE, safe="<> ='\"") + "'") / "gradcam", probes=4, maps=special, labels=[0, 1, 2, None],
        names={0: HOSTILE, 1: LONG, 2: ARABIC},
    )  # fmt: skip
    for part, factor in (("train", 1.0), ("validation", 2.0)):
        scalars = {"epoch_loss": [factor / (epoch + 1) for epoch in range(12)]}
        write_scalars(logdir / "clean" / part, scalars | ({"epoch_accuracy": [0.9] * 12} if part == "train" else {}))
    broken = logdir / "torn" / "gradcam"
    tab_runs.write_run(broken, epochs=3, probes=1, grid=(2, 2), size=(4, 4))
    (path,) = broken.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    (logdir / "noise").mkdir()
    (logdir / "noise" / "events.out.tfevents.1.host").write_bytes(os.urandom(5000))
    pair_maps, partner_maps = pairs()
    tab_runs.write_run(
        logdir / "pairs" / "gradcam", probes=3, size=(128, 64), maps=pair_maps, partner_maps=partner_maps,
        partner_size=(96, 48), torn=(4,), classes=0, names={}, labels=[7, 12, None],
        quantity=("distance", -1.0), label="identity",
    )  # fmt: skip
    tab_runs.write_run(
        logdir / "reid" / "gradcam", epochs=12, probes=3, seed=3, first_picture=50, classes=0, names={},
        labels=[7, 1, None], quantity=("similarity", 1.0), label="identity", spread=-0.01,
    )  # fmt: skip
    empty = tab_runs.moving_maps(3, 2, (4, 4))
    empty[0, 0] = 0
    tab_runs.write_run(logdir / "empty" / "gradcam", probes=2, maps=empty, forget_first=True)
    tab_runs.write_run(
        logdir / "long" / "gradcam", epochs=60, probes=2, grid=(4, 4), size=(16, 16), guided=False, scale="frame"
    )
    return logdir


@pytest.fixture(scope="module")
def boards(logs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("boards")
    (folder / "nothing").mkdir()
    found = {
        "fast": TensorBoard(folder / "fast", f"--logdir={logs}"),
        "slow": TensorBoard(
            folder / "slow",
            f"--logdir_spec=first:{logs}/long,second:{logs}/clean",
            "--load_fast=false",
            prefix="/pre/x",
        ),
        "empty": TensorBoard(folder / "empty", f"--logdir={folder / 'nothing'}"),
    }
    yield {name: board.wait() for name, board in found.items()}
    for board in found.values():
        board.close()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(20)
    yield driver
    driver.quit()


class Tab:
    """The tab as a person would use it."""

    def __init__(self, driver, board):
        self.driver, self.board = driver, board

    def open(self, state="", expect=".card canvas", host=False):
        """Opens the page, within TensorBoard's own or, faster, alone, and waits until it has its data."""
        self.driver.get("about:blank")
        if host:
            self.driver.get(f"{self.board.url}/#gradcam{state}")
            self.until(self.enter, "the frame")
        else:
            self.driver.get(f"{self.board.url}/data/plugin_entry.html?name=gradcam#gradcam{state}")
        self.until(lambda: self.all(".app[aria-busy=false]") and self.all(expect), expect)
        self.frames(2)
        return self

    def enter(self):
        self.driver.switch_to.default_content()
        frames = self.all('iframe[src*="name=gradcam"]')
        if frames:
            self.driver.switch_to.frame(frames[0])
        return bool(frames)

    def until(self, condition, what, seconds=15):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(Exception):
                if found := condition():
                    return found
            time.sleep(0.02)
        raise AssertionError(f"waited in vain for {what}: {self.text('body')[:500]}")

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def text(self, selector):
        return self.one(selector).text

    def texts(self, selector):
        return [found.text for found in self.all(selector)]

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def frames(self, count=2):
        script = "let n=arguments[0];const done=arguments[1];(function f(){n--?requestAnimationFrame(f):done()})()"
        self.driver.execute_async_script(script, count)

    def poll(self):
        """Makes the page look for new data now, as it does when it becomes visible."""
        self.run("document.dispatchEvent(new Event('visibilitychange'))")

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()
        self.frames()

    def set(self, selector, value, *events):
        script = "arguments[0].value=arguments[1];for(const e of arguments[2])arguments[0].dispatchEvent(new Event(e))"
        self.run(script, self.one(selector), value, events or ["input", "change"])
        self.frames()

    def pixels(self, selector, number=0):
        text = self.run(
            "return document.querySelectorAll(arguments[0])[arguments[1]].toDataURL('image/png')", selector, number
        )
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(text.split(",")[1]))).convert("RGB")).astype(int)

    @property
    def hash(self):
        return self.run("return parent.location.hash")

    @property
    def epoch(self):
        return self.text(".epoch")


@pytest.fixture
def tab(driver, boards):
    driver.get_log("browser")
    yield Tab(driver, boards["fast"])
    # Everything that our frame complained about, CSP violations included; the host's own noise is not ours.
    ours = [entry for entry in driver.get_log("browser") if "gradcam/" in entry["message"] or "CSP" in entry["message"]]
    ours += [entry for entry in ours if "Content Security Policy" in entry["message"]]
    unexpected = [
        entry for entry in ours if entry["level"] == "SEVERE" and "/data/plugin/gradcam/guided" not in entry["message"]
    ]
    assert unexpected == []
    assert driver.execute_script("return window.hacked || (window.parent && window.parent.hacked) || null") is None


CLEAN = "&p.gradcam.runs=clean%2Fgradcam"
BOTH = CLEAN + ",hans%2Fgradcam"


def test_it_opens_with_the_latest_epoch_of_the_first_run(tab):
    tab.open(CLEAN, host=True)
    assert tab.epoch == "epoch 11"
    assert tab.text(".status") == "12 of 12 epochs shown"
    assert len(tab.all(".card canvas")) == 6
    assert tab.texts(".card .caption")[1].split("\n") == ["dog", "→", "dog", "0.57"]
    assert tab.run("return performance.getEntriesByName('gradcam-first-frame').length") == 1
    assert tab.all(".error") == []


def test_the_overlay_is_the_renderers(tab, logs):
    tab.open(CLEAN + "&p.gradcam.probe=2&p.gradcam.epoch=7", ".large canvas")
    maps = tab_runs.moving_maps(12, 6).astype(np.float16).astype(np.float64)
    picture = render.resized(tab_runs.picture(2), (384, 384))
    for colors, scale in (("inferno", "run"), ("jet", "frame")):
        tab.set("#colors", colors)
        tab.one(f"input[name=scale][value={scale}]").click()
        tab.frames()
        top = maps[:, 2].max() if scale == "run" else maps[8, 2].max()
        expected = overlays.overlay(picture, maps[8, 2], float(top), render.Style(colormap=colors)).astype(int)
        drawn = tab.pixels(".large canvas")
        assert drawn.shape == expected.shape
        assert np.abs(drawn - expected).max() <= 2


def test_slider_arrows_home_and_end(tab):
    from selenium.webdriver import Keys

    tab.open(CLEAN)
    last = tab.pixels(".card canvas")
    tab.set("#epoch", 3, "input")
    assert tab.epoch == "epoch 2"
    assert np.abs(tab.pixels(".card canvas") - last).max() > 20
    tab.run("document.activeElement.blur()")
    tab.press(Keys.ARROW_RIGHT)
    assert tab.epoch == "epoch 3"
    tab.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert tab.epoch == "epoch 1"
    tab.press(Keys.HOME)
    assert tab.epoch == "start"
    tab.press(Keys.ARROW_LEFT)
    assert tab.epoch == "start"
    assert "p.gradcam.epoch=start" in tab.hash
    tab.press(Keys.END)
    assert tab.epoch == "epoch 11"
    np.testing.assert_array_equal(tab.pixels(".card canvas"), last)
    tab.one("button[aria-label='previous epoch']").click()
    tab.frames()
    assert tab.epoch == "epoch 10"


def test_play_runs_to_the_end_and_pauses(tab):
    tab.open(CLEAN + "&p.gradcam.speed=30&p.gradcam.epoch=2")
    tab.run("document.activeElement.blur()")
    tab.press(" ")
    assert tab.all("button[aria-label=pause]")
    tab.until(lambda: tab.epoch == "epoch 11" and tab.all("button[aria-label=play]"), "the end")
    tab.set("#speed", "2", "change")
    tab.one(".play").click()
    tab.until(lambda: tab.epoch in ("start", "epoch 0"), "the beginning")
    tab.one(".play").click()
    tab.frames()
    stopped = tab.epoch
    time.sleep(0.7)
    assert tab.epoch == stopped != "epoch 11"


def test_opacity_and_views(tab):
    tab.open(CLEAN + "&p.gradcam.epoch=11")
    overlay = tab.pixels(".card canvas")
    tab.set("#opacity", 0)
    plain = tab.pixels(".card canvas")
    expected = render.resized(tab_runs.picture(0), plain.shape[:2]).astype(int)
    np.testing.assert_array_equal(plain, expected)
    assert np.abs(overlay - plain).max() > 20
    drawn = {}
    for view in ("picture", "map", "guided"):
        tab.one(f"input[name=view][value={view}]").click()
        tab.until(lambda: not any(note == "loading" for note in tab.texts(".note")), "the guided pictures")
        tab.frames()
        drawn[view] = tab.pixels(".card canvas")
        assert f"p.gradcam.view={view}" in tab.hash
    np.testing.assert_array_equal(drawn["picture"], plain)
    assert drawn["map"][0, 0].sum() < 10
    assert abs(drawn["guided"].mean() - 128) < 12


def test_sort_and_filter(tab):
    def order():
        return [int(card.get_attribute("data-probe")) for card in tab.all(".card")]

    tab.open(CLEAN + "&p.gradcam.epoch=4")
    assert order() == [0, 1, 2, 3, 4, 5]
    tab.set("#sort", "label", "change")
    assert order() == [0, 3, 1, 4, 2, 5]
    tab.set("#sort", "wrong", "change")
    assert order() == [2, 3, 4, 0, 1, 5]
    tab.set("#sort", "mass", "change")
    mass = tab_runs.moving_maps(12, 6)[5].sum((1, 2))
    assert order() == list(np.argsort(-mass))
    tab.set("#sort", "drift", "change")
    assert sorted(order()) == [0, 1, 2, 3, 4, 5]
    tab.set("#filter", " DOG")
    assert sorted(order()) == [1, 3, 4]  # by label, and by what is predicted of 3
    tab.set("#filter", "")
    for show, expected in (("wrong", [2, 3, 4]), ("right", [0, 1, 5]), ("all", [0, 1, 2, 3, 4, 5])):
        tab.set("#show", show, "change")
        assert sorted(order()) == expected
    tab.set("#filter", "zebra")
    assert tab.all(".card") == []
    assert "No probe is like that" in tab.text(".grid")
    assert "p.gradcam.filter=zebra" in tab.hash


def test_detail(tab):
    from selenium.webdriver import Keys

    tab.open(CLEAN + "&p.gradcam.epoch=5")
    tab.all(".card .open")[1].click()
    tab.until(lambda: tab.all(".large canvas"), "the detail")
    tab.until(lambda: tab.run("return document.activeElement.className") == "detail", "focus")
    assert "p.gradcam.probe=1" in tab.hash
    titles = tab.texts(".chart strong")
    assert titles == [
        "score", "probability", "similarity to previous", "similarity to first", "focus", "mass inside the region",
    ]  # fmt: skip
    assert tab.texts(".chart .key")[1] == "0.45"
    assert len(tab.all(".strip .frame")) == 13
    assert tab.texts(".frame[aria-current] .name") == ["5"]
    box = tab.run(
        "const r=e=>e.getBoundingClientRect(),p=r(document.querySelector('.pair .picture')),"
        "b=r(document.querySelector('.region'));"
        "return [(b.left-p.left)/p.width,(b.top-p.top)/p.height,(b.right-p.left)/p.width,(b.bottom-p.top)/p.height]"
    )
    np.testing.assert_allclose(box, [24 / 96, 24 / 96, 72 / 96, 80 / 96], atol=0.01)
    before = tab.run("return document.querySelector('.cursor').getAttribute('x1')")
    tab.press(Keys.ARROW_RIGHT)
    assert tab.texts(".frame[aria-current] .name") == ["6"]
    assert tab.run("return document.querySelector('.cursor').getAttribute('x1')") != before
    tab.all(".strip .frame")[2].click()
    tab.frames()
    assert tab.epoch == "epoch 1"
    tab.press(Keys.ESCAPE)
    assert tab.all(".large") == []
    tab.until(
        lambda: tab.run("return document.activeElement.getAttribute('aria-label')") == "probe 1, dog: open", "focus"
    )
    assert "probe" not in tab.hash


def test_comparison(tab):
    tab.open(BOTH + "&p.gradcam.epoch=6")
    assert len(tab.all(".card")) == 6
    assert len(tab.all(".card canvas")) == 12
    assert tab.texts(".card .run-name")[:2] == ["clean", "hans"]
    from scipy.stats import spearmanr

    first, second = (tab_runs.moving_maps(12, 6, seed=seed)[7, 0].astype(np.float16) for seed in (0, 1))
    expected = spearmanr(first.ravel(), second.ravel()).statistic
    shown = tab.all(".card .column")[1].find_element("css selector", ".more").text
    assert shown.split()[0] == f"{expected:.2f}"
    tab.one("input[type=checkbox][value='other/gradcam']").click()
    tab.until(lambda: len(tab.all(".card canvas")) == 18, "the third run")
    tab.frames()
    assert "shown: epoch 3" in tab.text(".card")
    notes = tab.texts(".card[data-probe='5'] .note")
    assert notes == ["", "", "no such probe in this run"]
    tab.all(".card .open")[0].click()
    tab.until(lambda: len(tab.all(".large")) == 3, "three runs")
    assert len(tab.all(".strip")) == 3
    tab.until(lambda: "guided maps were not logged" in tab.texts(".large .more")[2], "the words")
    assert len(tab.all(".large canvas")) == 5  # no place is kept for guided maps that are not there
    assert "this run has no regions" in tab.texts(".large .more")[2]


def test_runs_of_other_pictures_are_not_compared(tab):
    tab.open(BOTH + ",reid%2Fgradcam&p.gradcam.epoch=6")
    assert tab.texts(".card .head .class") == ["", "", "", "cat", "dog", "horse"]
    expected = [("cat", "identity 7", "label"), ("dog", "identity 1", "picture"), ("horse", "no label", "label")]
    for probe, (label, other, why) in enumerate(expected):
        card = f".card[data-probe='{probe}'] "
        captions = tab.texts(card + ".caption")
        assert [line.split("\n")[0] for line in captions] == [label, label, other]
        assert " similar to clean" in tab.texts(card + ".more")[1]
        assert tab.texts(card + ".more")[2] == f"not compared: another {why}"
    assert tab.one(".card .open").get_attribute("aria-label") == "probe 0, cat / identity 7: open"
    assert tab.texts(".card[data-probe='4'] .caption")[2] == "→\nno prediction"
    widths = tab.run("return [...document.querySelectorAll('.card')].map(c=>[c.scrollWidth,c.clientWidth])")
    assert all(scroll <= client for scroll, client in widths)
    tab.set("#filter", "identity 7")
    assert [card.get_attribute("data-probe") for card in tab.all(".card")] == ["0"]
    tab.all(".card .open")[0].click()
    tab.until(lambda: len(tab.all(".large")) == 3, "three runs")
    assert tab.text("h1") == "#0 cat / identity 7"


def test_runs_of_other_pictures_with_one_label_are_not_compared(tab):
    tab.open(CLEAN + ",other%2Fgradcam&p.gradcam.epoch=2")
    assert [line.split("\n")[0] for line in tab.texts(".card[data-probe='1'] .caption")] == ["dog", "dog"]
    assert tab.texts(".card[data-probe='1'] .more")[1].split("\n")[0] == "not compared: another picture"


def test_scores_that_differ_little_are_told_apart(tab):
    tab.open("&p.gradcam.runs=reid%2Fgradcam&p.gradcam.epoch=11")
    shown = [text.split()[-1] for text in tab.texts(".card .caption")]
    assert shown == ["-0.4967", "-0.4966", "-0.4965"]
    tab.all(".card .open")[0].click()
    tab.until(lambda: tab.all(".large canvas"), "the detail")
    assert tab.texts(".chart .limit")[:2] == ["-0.4967", "-0.5000"]
    assert tab.texts(".chart .key")[0] == "-0.4967"


def test_without_a_first_map_the_curve_says_why(tab):
    reasons = {0: "no similarity: the first map is zero", 1: "no similarity was logged"}
    for probe, reason in reasons.items():
        tab.open(f"&p.gradcam.runs=empty%2Fgradcam&p.gradcam.probe={probe}", ".large canvas")
        (chart,) = [text for text in tab.texts(".chart") if text.startswith("similarity to first")]
        assert chart.split("\n")[1] == reason


PAIRS = "&p.gradcam.runs=pairs%2Fgradcam"


def drawn_as(picture, shown, top, shape, **style):
    """What the renderer would draw."""
    shown = shown.astype(np.float16).astype(np.float64)
    return overlays.overlay(render.resized(picture, shape[:2]), shown, float(top), render.Style(**style)).astype(int)


def test_pairs_stand_side_by_side(tab):
    maps, partner_maps = (side.astype(np.float16).astype(np.float64) for side in pairs())
    tab.open(PAIRS + "&p.gradcam.epoch=3")
    assert len(tab.all(".card")) == 3
    assert len(tab.all(".card canvas")) == 6
    assert tab.texts(".card .caption") == [
        "identity 7\n·\ndistance 0.59", "identity 12\n·\ndistance 0.60", "no label\n·\ndistance 0.61"
    ]  # fmt: skip
    assert tab.all(".wrong-word") == []
    assert tab.texts(".card .note") == [""] * 6
    for scale in ("run", "frame"):
        tab.one(f"input[name=scale][value={scale}]").click()
        tab.frames()
        for number, (side, picture) in enumerate(
            [(maps, tab_runs.picture(0, (128, 64))), (partner_maps, tab_runs.partner(0, (96, 48)))]
        ):
            drawn = tab.pixels(".card canvas", number)
            assert drawn.shape == (192, 96, 3) if number else drawn.shape == (128, 64, 3)
            top = side[:, 0].max() if scale == "run" else side[4, 0].max()
            assert np.abs(drawn - drawn_as(picture, side[4, 0], top, drawn.shape)).max() <= 2
    boxes = tab.run(
        "return [...document.querySelectorAll('.card .picture')].slice(0, 2)"
        ".map(e => e.getBoundingClientRect().toJSON())"
    )
    assert boxes[1]["left"] - boxes[0]["right"] == pytest.approx(2, abs=0.1)
    assert boxes[1]["top"] == boxes[0]["top"]
    assert boxes[1]["height"] == pytest.approx(boxes[0]["height"], abs=1)
    titles = tab.run("return [...document.querySelectorAll('.card .picture')].slice(0, 2).map(e => e.title)")
    assert titles == ["probe", "partner"]


def test_a_distance_is_drawn_without_its_minus_sign(tab):
    tab.open(PAIRS + "&p.gradcam.epoch=4")
    tab.all(".card .open")[1].click()
    tab.until(lambda: tab.all(".large canvas"), "the detail")
    assert tab.texts(".chart strong")[0] == "distance"
    assert tab.texts(".chart .key")[0] == "0.63"


def test_a_partner_without_a_map_is_plain(tab):
    tab.open(PAIRS + "&p.gradcam.epoch=4")
    plain = tab.pixels(".card canvas", 1)
    np.testing.assert_array_equal(plain, render.resized(tab_runs.partner(0, (96, 48)), plain.shape[:2]).astype(int))
    assert tab.texts(".card .note") == ["", "no map at this epoch"] * 3
    tab.set("#epoch", 3)
    assert tab.epoch == "epoch 2"
    assert tab.texts(".card .note") == ["", "", "", "map is zero", "", ""]

    def name():
        return tab.one(".card .open").get_attribute("aria-label")

    assert name() == "probe 0, identity 7 and its partner: open"
    for view in ("map", "picture", "guided"):
        tab.one(f"input[name=view][value={view}]").click()
        tab.until(lambda: "loading" not in tab.texts(".note"), "the guided pictures")
        tab.frames()
        if view == "map":
            assert tab.pixels(".card canvas", 3).max() < 10
        else:
            np.testing.assert_array_equal(tab.pixels(".card canvas", 1), plain)
    assert abs(tab.pixels(".card canvas").mean() - 128) < 12
    assert name() == "probe 0, identity 7 and its partner, which is shown without a map: open"
    assert tab.texts(".card .note") == [""] * 6


def test_pairs_beside_a_run_without_them(tab):
    tab.open("&p.gradcam.runs=clean%2Fgradcam,pairs%2Fgradcam&p.gradcam.sort=wrong&p.gradcam.epoch=4")
    assert [card.get_attribute("data-probe") for card in tab.all(".card")] == ["2", "3", "4", "0", "1", "5"]
    assert len(tab.all(".card[data-probe='0'] canvas")) == 3
    assert tab.texts(".card[data-probe='0'] .caption") == [
        "cat\n→\ncat\n0.43", "identity 7\n·\ndistance 0.62"
    ]  # fmt: skip
    assert tab.texts(".card[data-probe='0'] .head .class") == [""]
    assert tab.texts(".card[data-probe='0'] .more")[1] == "not compared: another label"
    assert tab.texts(".card[data-probe='5'] .note") == ["", *["no such probe in this run"] * 2]
    requests = tab.run(
        "return performance.getEntriesByType('resource').map(e => e.name).filter(n => /partner/.test(n))"
    )
    assert sorted(url.split("/")[-1] for url in requests) == [
        "partner_maps?run=pairs%2Fgradcam", "partners?run=pairs%2Fgradcam"
    ]  # fmt: skip
    assert tab.run("return document.documentElement.scrollWidth <= innerWidth")
    tab.one(".card[data-probe='1'] .open").click()
    tab.until(lambda: len(tab.all(".large")) == 2, "two runs")
    tab.until(lambda: "loading" not in tab.texts(".note"), "the guided pictures")
    counts = tab.run("return [...document.querySelectorAll('.large')].map(e => e.querySelectorAll('canvas').length)")
    assert counts == [2, 3]
    # A score and a distance have no better name in common, and are shown as logged.
    assert tab.texts(".chart strong")[0] == "score"
    assert tab.texts(".chart .key")[:2] == ["clean 1.40", "pairs -0.63"]
    strips = tab.run(
        "return [...document.querySelectorAll('.strip')]"
        ".map(e => e.querySelector('.frame').querySelectorAll('canvas').length)"
    )
    assert strips == [1, 2]
    tops = [f"{side[:, 1].max():.2f}" for side in pairs()]
    assert f"top {tops[0]} and {tops[1]} (run)" in tab.texts(".large .more")[1]
    frame = tab.pixels(".strip:last-child .frame:nth-child(7) canvas", 1)
    assert frame.shape == (56, 28, 3)
    maps = pairs()[1].astype(np.float16)
    expected = drawn_as(tab_runs.partner(1, (96, 48)), maps[6, 1], maps[:, 1].max(), frame.shape)
    assert np.abs(frame - expected).mean() < 4  # browsers shrink a little differently


def test_the_scale_is_the_runs_own_until_one_is_chosen(tab):
    tab.open("&p.gradcam.runs=long%2Fgradcam&p.gradcam.epoch=9")
    assert tab.one("input[name=scale][value=frame]").is_selected()
    filled = tab.pixels(".card canvas")
    tab.one("input[name=scale][value=run]").click()
    tab.frames()
    tab.until(lambda: "scale=run" in tab.hash, "the address")
    assert (tab.pixels(".card canvas") != filled).any()
    tab.one(".runs input[value='clean/gradcam']").click()
    tab.until(lambda: len(tab.all(".runs input:checked")) == 2, "two runs")
    assert tab.one("input[name=scale][value=run]").is_selected()


def test_the_address_holds_the_state(tab):
    state = (
        BOTH + "&p.gradcam.epoch=4&p.gradcam.view=map&p.gradcam.sort=label&p.gradcam.scale=frame&p.gradcam.opacity=30"
    )
    tab.open(state, host=True)
    for name, value in (("view", "map"), ("scale", "frame")):
        assert tab.one(f"input[name={name}][value={value}]").is_selected()
    assert tab.one("#sort").get_attribute("value") == "label"
    assert tab.one("#opacity").get_attribute("value") == "30"
    assert tab.epoch == "epoch 4"
    assert len(tab.all(".runs input:checked")) == 2
    tab.one("button[aria-label='next epoch']").click()
    tab.set("#colors", "viridis", "change")
    address = tab.hash
    assert address.startswith("#gradcam&")
    tab.driver.switch_to.default_content()
    tab.driver.get("about:blank")
    tab.driver.get(tab.board.url + "/" + address)
    tab.until(tab.enter, "the frame")
    tab.until(lambda: tab.epoch == "epoch 5", "the shared view")
    assert tab.one("#colors").get_attribute("value") == "viridis"
    # The run of the new address is fetched at once, not when the page looks for new data.
    tab.run("for (let i = 0; i < 1000; i++) clearInterval(i)")
    tab.run("parent.location.hash = '#gradcam&p.gradcam.epoch=2'")
    tab.until(lambda: tab.epoch == "epoch 2", "the new address")


@pytest.mark.parametrize(
    "state", ["&p.gradcam.epoch=zz&p.gradcam.runs=%2525", "&p.gradcam.probe=999", "&p.gradcam.runs=gone"]
)
def test_a_strange_address_does_no_harm(tab, state):
    tab.open(state)
    assert tab.epoch.startswith("epoch ")


def test_a_growing_run_and_a_new_one(tab, logs):
    maps = tab_runs.moving_maps(5, 2, (4, 4))
    kwargs = {"probes": 2, "size": (16, 16), "guided": False}
    _, writer = tab_runs.write_run(logs / "growing" / "gradcam", maps=maps[:3], close=False, **kwargs)
    tab.open("&p.gradcam.runs=growing%2Fgradcam")
    tab.until(lambda: tab.poll() or tab.epoch == "epoch 1", "the first epochs")
    writer.add(2, summary.maps_summary(maps[3].astype(np.float16)))
    writer.close()
    tab.until(lambda: tab.poll() or tab.epoch == "epoch 2", "the new epoch")
    assert tab.text(".status") == "3 of 3 epochs shown"


def test_the_hosts_reload_button_is_ours_too(tab):
    def requests():
        return tab.run("return performance.getEntriesByType('resource').filter(e=>e.name.endsWith('/runs')).length")

    tab.open(CLEAN, host=True)
    tab.run("window.setInterval = () => 0; for (let i = 0; i < 1000; i++) clearInterval(i)")
    before = requests()
    tab.driver.switch_to.default_content()
    tab.one("app-header-reload button").click()
    tab.enter()
    tab.until(lambda: requests() > before, "a fresh list of runs", seconds=4)
    assert tab.epoch == "epoch 11"


def test_maps_that_show_nothing_say_so(tab):
    name = next(box for box in tab.open().all(".runs input") if "onerror" in box.get_attribute("value"))
    tab.open("&p.gradcam.epoch=1&p.gradcam.runs=" + quote(quote(name.get_attribute("value"), safe=""), safe=""))
    assert tab.texts(".card .note") == ["map is zero", "map is not finite", "map is not finite", ""]
    assert tab.texts(".card .caption")[3].startswith("no label")


def test_hostile_names_are_text(tab):
    tab.open()
    value = next(v for box in tab.all(".runs input") if "onerror" in (v := box.get_attribute("value")))
    tab.open("&p.gradcam.runs=" + quote(quote(value, safe=""), safe=""))
    assert HOSTILE in tab.text(".card .caption")
    assert tab.run("return document.images.length") == 0
    labels = tab.all(".card .caption .label")
    assert 20 < len(labels[1].text) <= 40
    assert labels[2].get_attribute("dir") == "auto"
    assert "\u202e" not in labels[2].text
    widths = tab.run("return [...document.querySelectorAll('.card')].map(c=>[c.scrollWidth,c.clientWidth])")
    assert all(scroll <= client for scroll, client in widths)
    assert tab.run("return document.documentElement.scrollWidth <= innerWidth")
    tab.all(".card .open")[1].click()
    tab.until(lambda: tab.all(".large canvas"), "the detail")
    assert tab.run(
        "return document.querySelector('.detail').scrollWidth <= document.querySelector('.stage').clientWidth"
    )


def test_a_torn_file_spoils_nothing(tab):
    tab.open("&p.gradcam.runs=torn%2Fgradcam", ".card canvas, .message, .error")
    assert tab.text(".app")
    tab.open(CLEAN)
    assert "noise" not in tab.text(".runs")


def test_errors_are_shown_with_a_way_to_retry(tab):
    tab.open(CLEAN)
    tab.run(
        "window.fetched = window.fetch; window.fetch = (...a) => String(a[0]).includes('maps')"
        " ? Promise.resolve(new Response('broken <b>', {status: 500})) : window.fetched(...a)"
    )
    tab.one("input[type=checkbox][value='hans/gradcam']").click()
    tab.until(lambda: tab.all(".error"), "the error")
    assert "hans" in tab.text(".error")
    assert "500 broken <b>" in tab.text(".error")
    tab.run("window.fetch = window.fetched")
    tab.one(".error button").click()
    tab.until(lambda: len(tab.all(".card canvas")) == 12, "the second run")
    assert tab.all(".error") == []


def test_dark_and_light_follow_the_host(tab):
    tab.open(CLEAN, host=True)

    def paper():
        return tab.run("return getComputedStyle(document.body).backgroundColor")

    assert paper() == "rgb(255, 255, 255)"
    tab.run("parent.document.body.classList.add('dark-mode')")
    tab.until(lambda: paper() == "rgb(48, 48, 48)", "the dark theme")
    tab.run("parent.document.body.classList.remove('dark-mode')")
    tab.until(lambda: paper() == "rgb(255, 255, 255)", "the light theme")


def test_every_control_has_a_name_and_is_reached_by_tab(tab):
    from selenium.webdriver import Keys

    tab.open(BOTH)
    unnamed = tab.run(
        "return [...document.querySelectorAll('button,input,select')].filter(e=>"
        "!(e.getAttribute('aria-label')||e.labels?.[0]?.textContent||e.textContent).trim()).map(e=>e.outerHTML)"
    )
    assert unnamed == []
    reached = set()
    for _ in range(40):
        tab.press(Keys.TAB)
        reached.add(
            tab.run(
                "const e=document.activeElement;return e.id||e.name||e.className||e.getAttribute('aria-label')||e.type"
            )
        )
        if "open" in reached:
            break
    assert {"view", "colors", "opacity", "scale", "sort", "filter", "open"} <= reached


def test_loss_and_accuracy_stand_beside_the_slider(tab):
    tab.open(CLEAN + "&p.gradcam.epoch=4", host=True)
    assert tab.texts(".figures span") == ["loss 0.20 / 0.40", "accuracy 0.90"]
    assert len(tab.all(".drift .plot")) == 2
    tab.set("#epoch", 2)
    assert tab.texts(".figures span")[0] == "loss 0.50 / 1.00"
    tab.set("#epoch", 0)
    assert tab.texts(".figures span")[0] == "loss \u2013 / \u2013"
    tab.open("&p.gradcam.runs=hans%2Fgradcam")
    assert tab.texts(".figures span") == []
    assert len(tab.all(".drift .plot")) == 1


def test_classes_are_summed_up(tab):
    tab.open(CLEAN + "&p.gradcam.epoch=4")
    assert tab.all(".classes table") == []
    tab.one(".classes summary").click()
    tab.until(lambda: tab.all(".classes table"), "the table")
    heads = ["class", "probes", "wrong", "probability", "similarity", "focus", "mass inside"]
    assert tab.texts(".classes thead th") == heads
    rows = [[cell.text for cell in row.find_elements("css selector", "th, td")] for row in tab.all(".classes tbody tr")]
    assert [row[:2] for row in rows] == [["cat", "2"], ["dog", "2"], ["horse", "2"]]
    wrong = sum("wrong" in caption for caption in tab.texts(".card .caption"))
    assert sum(int(row[2]) for row in rows) == wrong == 3
    similar = [float(text.split()[1]) for text in tab.texts(".card .spark-name")]
    assert float(rows[1][4]) == pytest.approx((similar[1] + similar[4]) / 2, abs=0.011)
    tab.set("#epoch", 12)
    assert tab.texts(".classes tbody tr") != [" ".join(row) for row in rows]
    tab.one(".card .open").click()
    tab.until(lambda: not tab.one(".classes").is_displayed(), "the detail without the table")


def test_two_epochs_of_a_probe_are_compared(tab):
    tab.open(CLEAN + "&p.gradcam.epoch=3&p.gradcam.probe=1", ".large canvas")
    assert len(tab.all(".large canvas")) == 2
    then = tab.pixels(".large canvas")
    tab.one(".pin").click()
    tab.until(lambda: len(tab.all(".large canvas")) == 4, "the other epoch")
    assert tab.text(".pin") == "vs epoch 3"
    assert "p.gradcam.pinned=3" in tab.hash
    tab.set("#epoch", 12)
    now, pinned, change = (tab.pixels(".large canvas", number) for number in range(3))
    assert pinned.shape == now.shape == change.shape
    maps = tab_runs.moving_maps(12, 6)[:, 1].astype(np.float16).astype(np.float64)
    step = upsample((maps[12] - maps[4])[None], now.shape[:2])[0] / maps.max()
    orange = change[..., 0] - change[..., 2]  # red beyond blue
    strong = np.abs(step) > 0.2
    assert strong.any()
    assert (np.sign(orange[strong]) == np.sign(step[strong])).all()
    assert (np.abs(orange[np.abs(step) < 1e-3]) <= 1).all()  # grey
    assert "beside it epoch 3" in tab.text(".large .more")
    tab.one(".pin").click()
    tab.until(lambda: len(tab.all(".large canvas")) == 2, "one epoch")
    assert then.shape[0] >= pinned.shape[0]


def test_a_picture_can_be_enlarged(tab):
    tab.open(BOTH + "&p.gradcam.probe=1", ".large canvas")
    width = "return document.querySelector('.large canvas').getBoundingClientRect().width"
    before = tab.run(width)
    tab.one(".zoom").click()
    assert tab.run(width) > 1.5 * before
    assert tab.one(".zoom").get_attribute("aria-pressed") == "true"
    tab.one(".zoom").click()
    assert tab.run(width) == before


def test_the_pictures_of_an_epoch_are_saved(tab):
    tab.open(BOTH + "&p.gradcam.epoch=4")
    tab.run(
        "window.saved=null;HTMLAnchorElement.prototype.click=function(){const name=this.download;"
        "const image=new Image();image.onload=()=>window.saved=[name,image.width,image.height];image.src=this.href}"
    )
    tab.one("button[title^='save the pictures']").click()
    name, width, height = tab.until(lambda: tab.run("return window.saved"), "the file")
    assert name == "gradcam_epoch_4.png"
    cell = tab.pixels(".card canvas").shape
    assert (width, height) == (8 + 4 * (cell[1] + 8), 28 + 3 * (cell[0] + 28))


def test_all_epochs_of_a_probe_are_saved_as_a_gif(tab):
    tab.open(BOTH + "&p.gradcam.probe=2&p.gradcam.epoch=7&p.gradcam.speed=10", ".large canvas")
    tab.run(
        "window.saved=null;const make=URL.createObjectURL;URL.createObjectURL=(blob)=>{const reader=new FileReader();"
        "reader.onload=()=>window.saved=reader.result;reader.readAsDataURL(blob);return make(blob)};"
        "HTMLAnchorElement.prototype.click=function(){window.named=this.download}"
    )
    tab.one("button[title^='save all epochs']").click()
    content = tab.until(lambda: tab.run("return window.saved"), "the file")
    assert tab.run("return window.named") == "gradcam_probe_2.gif"
    animation = Image.open(io.BytesIO(base64.b64decode(content.split(",")[1])))
    assert (animation.n_frames, animation.info["duration"]) == (13, 100)
    shown = tab.pixels(".large canvas")
    assert animation.size == (8 + 2 * (shown.shape[1] + 8), 40 + shown.shape[0] + 8)
    animation.seek(8)  # the start, and epochs 0 to 7
    first = np.asarray(animation.convert("RGB")).astype(int)[20 : 20 + shown.shape[0], 8 : 8 + shown.shape[1]]
    assert np.abs(first - shown).max() <= 26  # half a step of the palette
    tab.open(BOTH)
    assert not tab.one("button[title^='save all epochs']").is_displayed()


def test_the_filmstrip_is_seen_at_once_and_the_bars_have_one_line(tab):
    four = ",".join(f"{name}%2Fgradcam" for name in ("clean", "hans", "other", "reid"))
    for width, height in ((1440, 800), (1280, 800)):
        tab.driver.set_window_size(width, height)
        try:
            tab.open(f"&p.gradcam.runs={four}", "canvas")
            card = tab.run("return document.querySelector('.card canvas').getBoundingClientRect().width")
            assert tab.run("return document.querySelector('.bar.top').offsetHeight") <= 42
            tab.open(f"&p.gradcam.runs={four}&p.gradcam.probe=1", ".large canvas")
            assert tab.run("return document.querySelector('.large canvas').getBoundingClientRect().width") > card
            bottom = tab.run("return document.querySelector('.strip').getBoundingClientRect().bottom")
            assert bottom <= tab.run("return document.querySelector('.bar.bottom').getBoundingClientRect().top")
        finally:
            tab.driver.set_window_size(1280, 900)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_told_from_their_ground(tab, theme):
    """WCAG 2 AA: a contrast of 4.5 at least, for all words on the page that are not switched off."""
    for state in (BOTH, BOTH + "&p.gradcam.probe=1"):
        tab.open(state, "canvas")
        tab.run(f"document.documentElement.dataset.theme='{theme}'")
        tab.frames()
        low = tab.run(
            """
            const luminance = (color) => {
              const parts = color.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
              return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
            };
            const rgb = (text) => text.match(/[0-9.]+/g).map(Number);
            const ground = (node) => {
              for (; node; node = node.parentElement) {
                const color = rgb(getComputedStyle(node).backgroundColor);
                if (color.length < 4 || color[3] > 0.7) return color;
              }
              return [255, 255, 255];
            };
            const found = [];
            for (const node of document.querySelectorAll(".app *")) {
              const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
              if (!own || node.disabled || !node.getClientRects().length) continue;
              if (node.closest("label:has(:disabled)")) continue;
              const colors = [rgb(getComputedStyle(node).color), ground(node)];
              const [a, b] = colors.map((color) => luminance(color.slice(0, 3)));
              const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
              if (contrast < 4.5) found.push([node.className, node.textContent.slice(0, 30), contrast]);
            }
            return found;
            """
        )
        assert low == []


def test_it_fits_1000_pixels(tab):
    tab.driver.set_window_size(1000, 800)
    try:
        for state in (CLEAN, BOTH, CLEAN + "&p.gradcam.probe=1", PAIRS, PAIRS + ",clean%2Fgradcam&p.gradcam.probe=1"):
            tab.open(state, "canvas")
            assert tab.run("return document.documentElement.scrollWidth <= innerWidth")
            overflow = tab.run(
                "return [...document.querySelectorAll('.bar > *')].filter(e=>{const r=e.getBoundingClientRect();"
                "return r.right>innerWidth||r.left<0}).length"
            )
            assert overflow == 0
    finally:
        tab.driver.set_window_size(1280, 900)


@pytest.mark.parametrize(("board", "run"), [("fast", "long/gradcam"), ("slow", "first/gradcam")])
def test_all_60_epochs_are_offered(driver, boards, board, run):
    tab = Tab(driver, boards[board]).open(
        "&p.gradcam.runs=" + quote(quote(run, safe=""), safe=""), host=board == "slow"
    )
    assert tab.text(".status") == "60 of 60 epochs shown"
    assert tab.one("#epoch").get_attribute("max") == "60"
    tab.set("#epoch", 1)
    assert tab.epoch == "epoch 0"


def test_an_empty_log_directory_says_what_to_write(driver, boards):
    tab = Tab(driver, boards["empty"]).open("", ".message", host=True)
    assert "No Grad-CAM data yet" in tab.text(".message")
    lines = tab.text("pre").split("\n")
    assert len(lines) == 3
    assert "GuidedGradCAMCallback(" in lines[1]


def test_tensorboard_had_nothing_to_complain_about(boards):
    for board in boards.values():
        log = board.log.read_text()
        assert "Traceback" not in log
        assert "Content-Type is required" not in log
        assert board.process.poll() is None
