"""A run that is interrupted in any way goes on, and ends as if it had not been; memory does not grow."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest
from cli_models import (
    FAST,
    contents,
    error_line,
    manifest,
    network,
    png,
    run,
    saved,
)

from keras_gradcam.cli.errors import CommandError
from keras_gradcam.cli.explain.journal import JOURNAL, MANIFEST, Journal

COUNT = 60


WORDS = ("--method", "gradcam,saliency", "--batch-size", "8", "--quiet")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model, many pictures, one of them broken, and the results of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("resume")
    saved(network(), folder / "model.keras")
    for number in range(COUNT):
        png(folder / "pictures" / f"{number % 3}" / f"p{number // 3}.png", number)
    (folder / "pictures" / "1" / "p10.png").write_bytes(b"broken")
    for path in (folder / "pictures").rglob("*.png"):
        os.utime(path, (time.time() - 60,) * 2)  # the manifest says nothing of the time of a file changed just now
    assert run("explain", folder / "model.keras", folder / "pictures", "--out", folder / "whole", *WORDS) == 1
    return folder


def explained(given, out, *words):
    return run("explain", given / "model.keras", given / "pictures", "--out", out, *WORDS, *words)


def started(given, out):
    """The same command in a process of its own."""
    words = ["explain", given / "model.keras", given / "pictures", "--out", out, *WORDS]
    return subprocess.Popen(
        [sys.executable, "-m", "keras_gradcam", *map(str, words)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def journal_lines(out):
    path = out / JOURNAL
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_run_that_is_killed_goes_on(given, tmp_path, capsys):
    out = tmp_path / "out"
    process = started(given, out)
    deadline = time.monotonic() + 120
    while journal_lines(out) < 10 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert said == ""
    assert not (out / MANIFEST).exists(), "the run came to its end before it was killed"
    done = [line for line in (out / JOURNAL).read_bytes().split(b"\n")[1:-1] if b'"files"' in line]
    assert 0 < len(done) < COUNT - 1
    assert all((out / name).exists() for line in done for name in json.loads(line)["files"])
    assert explained(given, out) == 1
    assert f"{COUNT - 1 - len(done)} explained, {len(done)} explained before, 1 failed" in capsys.readouterr().out
    assert contents(out) == contents(given / "whole")


@pytest.mark.parametrize("at", [0, 7, 8, COUNT - 2])
def test_interrupted_anywhere_it_goes_on(given, tmp_path, monkeypatch, capsys, at):
    """At the first picture, within a batch, between two, at the last: its files are there, its line is not."""
    assert _interrupted(given, tmp_path / "out", monkeypatch, at) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert last == f"keras-gradcam: interrupted; {at} of {COUNT} are done. The same command goes on from there."
    assert not (tmp_path / "out" / MANIFEST).exists()
    assert explained(given, tmp_path / "out") == 1
    assert contents(tmp_path / "out") == contents(given / "whole")


def test_a_torn_line_is_cut_off(given, tmp_path, monkeypatch):
    out = tmp_path / "out"
    _interrupted(given, out, monkeypatch, 20)
    with (out / JOURNAL).open("ab") as file:
        file.write(b'{"path": "/half a li')
    (out / ".p1.png.0123456789abcdef.unfinished").write_bytes(b"half a picture")
    assert explained(given, out) == 1
    assert contents(out) == contents(given / "whole")


def test_a_result_that_is_gone_is_made_again(given, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    shutil.copytree(given / "whole", out)
    (out / "0_p3.png").unlink()
    assert explained(given, out) == 1
    assert f"1 explained, {COUNT - 2} explained before, 1 failed" in capsys.readouterr().out
    assert contents(out) == contents(given / "whole")


def test_a_finished_run_does_nothing_and_touches_nothing(given, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(given / "whole", out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert explained(given, out) == 1
    assert f"{COUNT - 1} explained before, 1 failed" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_an_end_between_manifest_and_journal(given, tmp_path, monkeypatch):
    """The manifest is written and the journal still there: the next run takes the journal away."""
    out = tmp_path / "out"
    _interrupted(given, out, monkeypatch, COUNT - 2)
    shutil.copy(given / "whole" / MANIFEST, out / MANIFEST)
    assert explained(given, out) == 1
    assert contents(out) == contents(given / "whole")


def _interrupted(given, out, monkeypatch, at):
    written, add = [], Journal.add

    def interrupted(self, entry):
        if "files" in entry:
            written.append(entry)
            if len(written) > at:
                raise KeyboardInterrupt
        add(self, entry)

    monkeypatch.setattr(Journal, "add", interrupted)
    code = explained(given, out)
    monkeypatch.undo()
    return code


def test_pictures_that_are_added_and_changed(tmp_path, capsys):
    model = saved(network(), tmp_path / "m.keras")
    words = "--out", tmp_path / "out", "--method", "gradcam", "--format", "npz"
    for name in ("a", "b"):
        png(tmp_path / "p" / f"{name}.png", 1)
    assert run("explain", model, tmp_path / "p", *words) == 0
    before = contents(tmp_path / "out")
    png(tmp_path / "p" / "c.png", 2)
    png(tmp_path / "p" / "b.png", 3)
    assert run("explain", model, tmp_path / "p", *words) == 0
    assert "2 explained, 1 explained before" in capsys.readouterr().out
    after = contents(tmp_path / "out")
    assert set(after) == {"a.npz", "b.npz", "c.npz", MANIFEST}
    assert after["a.npz"] == before["a.npz"]
    assert after["b.npz"] != before["b.npz"]
    # Other pictures in the same folder: the first ones stay in the manifest, under the names they have.
    png(tmp_path / "q" / "a.png", 4)
    assert run("explain", model, tmp_path / "q", *words) == 0
    assert [entry["files"] for entry in manifest(tmp_path / "out")["pictures"]] == [
        ["a.npz"],
        ["b.npz"],
        ["c.npz"],
        ["q_a.npz"],
    ]
    # A picture that is broken now has no result any more.
    (tmp_path / "p" / "b.png").write_bytes(b"broken")
    assert run("explain", model, tmp_path / "p", *words) == 1
    assert set(contents(tmp_path / "out")) == {"a.npz", "c.npz", "q_a.npz", MANIFEST}
    written = manifest(tmp_path / "out")
    assert [entry["name"] for entry in written["pictures"]] == ["a", "c", "q_a"]
    assert [entry["name"] for entry in written["failures"]] == ["b"]


def test_another_batch_size_may_go_on(given, tmp_path, monkeypatch):
    out = tmp_path / "out"
    _interrupted(given, out, monkeypatch, 20)
    assert explained(given, out, "--batch-size", "3") == 1
    assert set(contents(out)) == set(contents(given / "whole"))


HEADER = {"made_with": {"x": "1"}, "model": {"source": "m", "sha256": "0"}, "settings": {"layer": None}}


def test_two_cannot_write_to_one_folder(tmp_path):
    pytest.importorskip("fcntl")
    with Journal(tmp_path, HEADER):
        code = (
            "import sys, pathlib\nfrom keras_gradcam.cli.explain.journal import Journal\n"
            f"Journal(pathlib.Path(sys.argv[1]), {HEADER!r})"
        )
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
        assert "another keras-gradcam is writing to" in other.stderr.splitlines()[-1]
    with Journal(tmp_path, HEADER):
        pass


def test_a_folder_is_not_made_dirty_by_opening_it(tmp_path):
    with Journal(tmp_path / "new", HEADER):
        pass
    assert list((tmp_path / "new").iterdir()) == []


def test_a_journal_of_somebody_else(tmp_path):
    (tmp_path / JOURNAL).write_bytes(b"not ours\n")
    with pytest.raises(CommandError, match="was not written by keras-gradcam"):
        Journal(tmp_path, HEADER)


def test_a_moved_model_is_the_same_model(tmp_path):
    with Journal(tmp_path, HEADER) as journal:
        journal.add({"path": "/a", "name": "a", "sha256": "1", "files": []})
    moved = {**HEADER, "model": {"source": "elsewhere", "sha256": "0"}}
    assert Journal(tmp_path, moved).records["/a"].digest == "1"


@pytest.mark.parametrize("part", ["made_with", "settings", "model"])
def test_what_differs_is_said(tmp_path, part):
    with Journal(tmp_path, HEADER) as journal:
        journal.add({"path": "/a", "name": "a", "sha256": "1", "files": []})
    other = {**HEADER, part: {"source": "m", "sha256": "1", "x": "2", "layer": "conv"}}
    message = {"made_with": "x: 1, not 2", "settings": "layer: None, not conv", "model": "model: m of another content"}
    with pytest.raises(CommandError, match=message[part]):
        Journal(tmp_path, other)


def test_memory_does_not_grow_with_the_number_of_pictures(given, tmp_path):
    pictures = sorted((given / "pictures").rglob("*.png"))
    for number in range(140):
        png(tmp_path / "more" / f"m{number}.png", number)
    words = "--method", "gradcam", "--format", "npz", "--batch-size", "8", "--quiet"

    def peak(name, *folders):
        tracemalloc.start()
        try:
            run("explain", given / "model.keras", *folders, "--out", tmp_path / name, *words)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak("warm", pictures[0])
    few = peak("few", *pictures[:50])
    many = peak("many", tmp_path / "more", given / "pictures")
    assert len(list((tmp_path / "many").iterdir())) == 200  # 199 and the manifest
    assert many - few < 1_000_000, f"{few} and {many} bytes"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", [b"{}", b"[]", b"not json", b'{"files": []}'])
def test_no_manifest_of_others_is_replaced(tmp_path, content, overwrite):
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(CommandError, match="was not written by keras-gradcam and would be replaced"):
        Journal(tmp_path, HEADER, overwrite)
    assert contents(tmp_path) == {MANIFEST: content}


def test_other_settings_need_a_word(workplace, capsys):
    assert run("explain", "model.keras", "pictures", "--out", "out", "--method", "gradcam") == 0
    before = contents(workplace / "out")
    capsys.readouterr()
    for words, message in (
        (["--method", "hirescam"], "methods: gradcam, not hirescam"),
        (["--method", "gradcam", "--class", "1"], "class: predicted, not 1"),
        (["--method", "gradcam", "--labels", "names.txt"], "labels: None, not "),
    ):
        assert run("explain", "model.keras", "pictures", "--out", "out", *words) == 2
        line = error_line(capsys)
        assert "was made otherwise" in line or "were made otherwise" in line
        assert message in line
        assert "--overwrite" in line
        assert contents(workplace / "out") == before
    saved(network(seed=1), workplace / "model.keras")
    assert run("explain", "model.keras", "pictures", "--out", "out", "--method", "gradcam") == 2
    assert "of another content" in error_line(capsys)


def test_overwriting_removes_what_was_there(workplace):
    assert run("explain", "model.keras", "pictures", "--out", "out", "--method", "gradcam") == 0
    (workplace / "out" / "mine.txt").write_text("mine")
    assert run("explain", "model.keras", "pictures/p0.png", "--out", "out", *FAST, "--overwrite") == 0
    assert set(contents(workplace / "out")) == {"p0.npz", "manifest.json", "mine.txt"}
    assert len(manifest(workplace / "out")["pictures"]) == 1


def test_a_manifest_cannot_make_us_remove_what_lies_elsewhere(workplace):
    assert run("explain", "model.keras", "pictures/p0.png", "--out", "out", *FAST) == 0
    written = manifest(workplace / "out")
    written["pictures"][0]["files"] = ["../names.txt", str(workplace / "names.txt"), "p0.npz"]
    (workplace / "out" / "manifest.json").write_text(json.dumps(written))
    assert run("explain", "model.keras", "pictures/p0.png", "--out", "out", *FAST, "--overwrite") == 2
    assert (workplace / "names.txt").exists()
