"""Tries in full what ``test_robustness.py`` samples, and writes the figures to ``docs/robustness.md``.

python tests/robustness/run.py            # some ten minutes on two cores
python tests/robustness/run.py --quick    # a tenth of it, and nothing is written
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_TESTS), str(_TESTS.parent)]

from robustness import crafted_events, fault_schedules, hostile_files, kills, wrong_options  # noqa: E402
from robustness.outcomes import Outcomes  # noqa: E402

_TEXT = """# What was tried to break it

Made by `python tests/robustness/run.py`; seeds are fixed, moments of kills and threads are not. A sample of it is part
of the tests. What is trusted, and which limits hold, stands in [security.md](security.md).

{table}

- **Crafted event files**: each tag of the tab with wrong types, shapes, contents, nesting, sizes, classes of data,
  steps and times, beside a good run. Survived: the good run is shown whole, every route answers with the data or with
  a reason.
- **Schedules of faults**: writes that tear, a disk that is full from some moment on, pictures that cannot be drawn or
  encoded (with `SystemExit` and `MemoryError` too), folders that are removed or replaced. Survived: the training ends
  with the weights and the optimizer bit for bit as without the callback, one warning of a failure at most, at least one
  word where anything failed, and every epoch whose numbers were written is read back: by `History.load`, and every
  tenth training by both of TensorBoard's loaders.
- **Kills**: SIGKILL at random moments. Survived: every epoch that had ended is read, with its maps.
- **Hostile files**: survived are those explained, or refused in one line, within {patience} seconds, with nothing
  changed outside the output folder, no escape sequence printed and no code run.
- **Wrong options**: each option of the public constructors and functions with {values} wrong values. Survived: an
  `ArgumentError` before the first batch, or a result.
"""


@contextlib.contextmanager
def _silence() -> Iterator[Callable[[], tuple[str, str]]]:
    """Redirects what is printed, and gives a function that returns it."""
    streams = io.StringIO(), io.StringIO()

    def taken() -> tuple[str, str]:
        texts = streams[0].getvalue(), streams[1].getvalue()
        for stream in streams:
            stream.seek(0)
            stream.truncate()
        return texts

    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        yield taken


def _series(share: float) -> Iterator[Callable[[Path, Callable[[], tuple[str, str]]], Outcomes]]:
    limit = None if share == 1 else int(share * len(list(crafted_events.kinds())))
    yield lambda folder, taken: crafted_events.attempt(folder, "fast", limit)
    yield lambda folder, taken: crafted_events.attempt(folder, "slow", limit)

    def reported(folder: Path, taken: Callable[[], tuple[str, str]]) -> Outcomes:
        crafted_events.attempt(folder, "slow", limit)
        return crafted_events.attempt_reports(folder, lambda: taken()[0])

    yield reported
    yield lambda folder, taken: fault_schedules.attempt(folder, int(500 * share), served=10)
    yield lambda folder, taken: kills.attempt(folder, int(24 * share))
    yield hostile_files.attempt_pictures
    yield hostile_files.attempt_models
    yield hostile_files.attempt_labels
    yield hostile_files.attempt_links
    yield lambda folder, taken: hostile_files.attempt_manifests(folder, taken, every=int(1 / share))
    yield lambda folder, taken: hostile_files.attempt_rows(folder, taken, every=int(4 / share))
    yield lambda folder, taken: wrong_options.attempt(None if share == 1 else int(4000 * share))


def main(share: float) -> int:
    """Tries everything, or a share of it; returns how many attempts were lost."""
    rows = ["| what | tried | survived | lost | how |", "|---|---|---|---|---|"]
    lost = 0
    for attempt in _series(share):
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, _silence() as taken:
            outcomes = attempt(Path(folder), taken)
        rows.append(outcomes.row())
        lost += len(outcomes.losses)
        print(f"{outcomes.row()} {time.monotonic() - begin:.0f} s", *outcomes.losses, sep="\n  ", flush=True)
    if share == 1:
        text = _TEXT.format(table="\n".join(rows), patience=hostile_files.PATIENCE, values=len(wrong_options.WRONG))
        (_TESTS.parent / "docs" / "robustness.md").write_text(text)
    return lost


if __name__ == "__main__":
    sys.exit(min(main(0.1 if "--quick" in sys.argv else 1.0), 1))
