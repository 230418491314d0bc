"""``explain --format parquet``: rows, shares of the work, and words about both."""

from __future__ import annotations

import os
import re
import sys

import pytest
from cli_models import FAST, check_refusal, error_line, png, run
from data_set_folders import LONG_AGO, assert_same_rows, rows_of

from keras_gradcam.datasets import local_run, open_results
from keras_gradcam.datasets.sources import Part

PARQUET = ("explain", "model.keras", "pictures", "--method", "gradcam", "--format", "parquet", "--out", "rows")


@pytest.fixture
def many(workplace):
    for number in range(9):
        path = png(workplace / "pictures" / f"p{number}.png", number)
        os.utime(path, (LONG_AGO, LONG_AGO))
    return workplace


def test_rows_are_written_and_a_second_run_says_so(many, capsys):
    assert run(*PARQUET, "--labels", "names.txt") == 0
    assert (
        capsys.readouterr().out == "9 explained at layer last. See rows; keras-gradcam show rows draws some of them\n"
    )
    assert len(rows_of(many / "rows")) == 9
    assert open_results(many / "rows").class_names == {0: "cat", 1: "wild cat", 2: "dog"}
    assert run(*PARQUET, "--labels", "names.txt") == 0
    assert capsys.readouterr().out.startswith("9 explained before at layer last.")


def test_settings_of_the_command_line_arrive(many):
    assert run(*PARQUET, "--class", "1", "--contrast", "2", "--preprocess", "1/2,0", "--batch-size", "4") == 0
    results = open_results(many / "rows")
    assert results.plan.target == "Class(1) - Class(2)"
    assert run(*PARQUET[:-1], "other", "--class", "1", "--layer", "first", "--method", "layercam") == 0
    plan = open_results(many / "other").plan
    assert (plan.layer, list(plan.maps)) == ("first", ["gradcam", "layercam"])


def test_broken_pictures_are_named(many, capsys):
    (many / "pictures" / "p3.png").write_bytes(b"broken")
    assert run(*PARQUET) == 1
    printed = capsys.readouterr()
    assert "pictures/p3.png: is no picture that can be read" in printed.err
    assert printed.out.startswith("8 explained, 1 failed")
    assert run(*PARQUET[:6], "parquet", "--out", "small", "--max-file-size", "1") == 1
    (many / "pictures" / "p4.png").write_bytes(b"x" * (2 << 20))
    assert run(*PARQUET) == 1
    run(*PARQUET[:6], "parquet", "--out", "small2", "--max-file-size", "1")
    assert re.search(
        r"p4\.png: cannot be read: has 2 MB, more than 1\. Candidates: --max-file-size", capsys.readouterr().err
    )


def test_shares_make_the_same_rows(many):
    assert run(*PARQUET) == 0
    for number in (2, 1):
        assert run(*PARQUET[:-1], "shares", "--shard", f"{number}/2") == 0
    assert_same_rows(rows_of(many / "shares"), rows_of(many / "rows"))


def test_shares_of_drawings_have_folders_of_their_own(many, capsys):
    for number in (1, 2):
        assert run("explain", "model.keras", "pictures", *FAST, "--out", "npz", "--shard", f"{number}/2") == 0
    files = sorted(path.name for path in (many / "npz").rglob("*.npz"))
    assert files == [f"p{number}.npz" for number in range(9)]
    assert sorted(path.name for path in (many / "npz").iterdir()) == ["shard-0001-of-0002", "shard-0002-of-0002"]
    assert "2/2" not in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["panel", "parquet"])
def test_a_share_may_be_empty(many, capsys, kind):
    paths = [str(path) for path in (many / "pictures").iterdir()]
    number = next(number for number in range(1, 500) if not Part(number, 500).owns(paths).any())
    words = ["explain", "model.keras", "pictures", "--format", kind, "--out", "out", "--shard", f"{number}/500"]
    assert run(*words) == 0
    assert capsys.readouterr().out.startswith("0 explained")


def test_ctrl_c_says_how_far_it_came(many, monkeypatch, capsys):
    class Interrupted(local_run._Writer):
        def add(self, rows):
            super().add(rows)
            raise KeyboardInterrupt

    monkeypatch.setattr(local_run, "_Writer", Interrupted)
    assert run(*PARQUET, "--batch-size", "4") == 130
    assert "interrupted; " in capsys.readouterr().err
    assert len(rows_of(many / "rows")) == 4


def test_a_full_disk_is_said_in_one_line(many, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device", "rows/part")

    monkeypatch.setattr(local_run._Writer, "flush", full)
    assert run(*PARQUET) == 2
    assert error_line(capsys).startswith("a result cannot be written: No space left on device: 'rows/part'.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--class", "top3"], "--class must be one class of each picture for --format parquet.*Received: top3"),
        (["--shard", "3/2"], "--shard must be NUMBER/COUNT"),
        (["--layer", "conv9"], "--layer must"),
        (["--format", "panel", "--engine", "ray"], "--engine ray must be with --format parquet"),
        (["--engine", "ray", "--shard", "1/2"], "--shard must not be given beside the engine 'ray'"),
    ],
)
@pytest.mark.usefixtures("many")
def test_what_cannot_be(capsys, words, message):
    check_refusal(capsys, [*PARQUET, *words], message)


@pytest.mark.usefixtures("many")
def test_packages_that_are_missing_are_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(*PARQUET, "--engine", "ray") == 2
    line = "engine='ray' needs ray, which is not installed: pip install 'keras_gradcam[ray]'."
    assert error_line(capsys) == line
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run(*PARQUET) == 2
    assert "pip install 'keras_gradcam[parquet]'" in error_line(capsys)


def test_other_settings_need_overwrite(many, capsys):
    assert run(*PARQUET) == 0
    assert run(*PARQUET, "--class", "1") == 2
    line = error_line(capsys)
    assert re.search(r"--out must hold no results of something else.*target: Class\(\), not Class\(1\)", line)
    assert line.endswith("Candidates: another folder, --overwrite.")
    assert run(*PARQUET, "--class", "1", "--overwrite") == 0
    assert len(rows_of(many / "rows")) == 9
