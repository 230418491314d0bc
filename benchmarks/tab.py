"""Measures how long the tab takes.

python benchmarks/tab.py [--epochs 20 200 1000] [--probes 16] [--starts 5]

Prints, for runs of made-up maps of 14x14: the size of the event file; the time from opening the page to its first drawn
frame; the median time of drawing a frame after the slider moved, and from the move to after the frame, median and
longest (this includes waiting for the next frame, up to 17 ms); and how much longer TensorBoard takes to
start with the plugin than without. Needs Chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,900"
)
_SLIDE = """
const slider = document.querySelector("#epoch"), done = arguments[0], times = [], last = Number(slider.max);
let left = 40;
function once() {
  slider.value = String((left * 7919) % (last + 1));
  const begun = performance.now();
  slider.dispatchEvent(new Event("input"));
  requestAnimationFrame((frame) => {
    const drawing = performance.now() - frame;
    setTimeout(() => {
      times.push([drawing, performance.now() - begun]);
      --left ? once() : done(times);
    }, 0);
  });
}
once();
"""


@contextlib.contextmanager
def tensorboard(logdir, *arguments, plugin=True):
    """Starts TensorBoard; yields its address and the seconds that it took to answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Without the plugin: the same TensorBoard, which does not see the entry point of this package.
    start = (
        "import importlib.metadata as m, sys; from tensorboard import default, main\n"
        "if sys.argv.pop(1) == 'without':\n"
        "    default._iter_entry_points = lambda group: [\n"
        "        e for e in m.entry_points(group=group) if not e.value.startswith('keras_gradcam')]\n"
        "main.run_main()"
    )
    command = [sys.executable, "-c", start, "with" if plugin else "without", f"--logdir={logdir}", "--host=127.0.0.1"]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*command, f"--port={port}", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/data/plugins_listing") as answer:
                listed = b"gradcam" in answer.read()
                break
            if process.poll() is not None or time.perf_counter() - begun > 120:
                raise RuntimeError("TensorBoard does not start")
            time.sleep(0.02)
        if listed != plugin:
            raise RuntimeError(f"the plugin is {'not ' if plugin else ''}listed")
        yield url, time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait()


def opened_tab(url, driver):
    """Returns the milliseconds to the first frame, and per move of the slider those of drawing and in all."""
    driver.get("about:blank")
    driver.get(f"{url}/#gradcam")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        driver.switch_to.default_content()
        if frames := driver.find_elements("css selector", 'iframe[src*="name=gradcam"]'):
            driver.switch_to.frame(frames[0])
            marks = driver.execute_script(
                "return performance.getEntriesByName('gradcam-first-frame').map(e=>e.startTime)"
            )
            if marks:
                return marks[0], driver.execute_async_script(_SLIDE)
        time.sleep(0.05)
    raise RuntimeError("the tab does not open")


def browser(profile):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in [*_FLAGS.split(), f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))
    driver.set_script_timeout(60)
    return driver


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, nargs="+", default=[20, 200, 1000])
    parser.add_argument("--probes", type=int, default=16)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tab_runs

    with tempfile.TemporaryDirectory() as folder:
        driver = browser(Path(folder, "profile"))
        try:
            print("epochs  loader  event file    first frame    drawing    move to frame      worst")
            for epochs in options.epochs:
                logdir = Path(folder, str(epochs))
                tab_runs.write_run(
                    logdir / "gradcam", epochs=epochs, probes=options.probes, size=(224, 224), guided=False
                )
                size = sum(path.stat().st_size for path in logdir.rglob("events*"))
                for loader, flag in (("fast", "true"), ("slow", "false")):
                    with tensorboard(logdir, f"--load_fast={flag}") as (url, _):
                        time.sleep(5)  # lets the loader finish: the speed of the page is measured
                        shots = [opened_tab(url, driver) for _ in range(3)]
                    first = statistics.median(shot[0] for shot in shots)
                    moves = [move for shot in shots for move in shot[1]]
                    drawing, whole = (statistics.median(move[i] for move in moves) for i in (0, 1))
                    worst = max(move[1] for move in moves)
                    print(
                        f"{epochs:6}  {loader:6}  {size / 1e6:7.2f} MB  {first:8.0f} ms  {drawing:8.1f} ms  "
                        f"{whole:10.1f} ms  {worst:8.1f} ms",
                        flush=True,
                    )
        finally:
            driver.quit()
        times = {True: [], False: []}
        for _ in range(options.starts):
            for plugin in times:
                with tensorboard(folder, plugin=plugin) as (_, seconds):
                    times[plugin].append(seconds)
        with_, without = (statistics.median(times[plugin]) for plugin in (True, False))
        print(
            f"start of TensorBoard: {with_:.2f} s with the plugin, {without:.2f} s without: ratio {with_ / without:.3f}"
        )


if __name__ == "__main__":
    main()
