"""A run on this machine: files of sensible size, and nothing lost or twice however it ends."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from data_set_folders import rows_of, write_pictures

from keras_gradcam.datasets import ExplainBatch, explain_dataset, local_run, shards


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr(local_run, "_MOST_ROWS", 4)


def run(model, pictures, out, **options):
    return explain_dataset(pictures, ExplainBatch(model, batch_size=2), out, progress=False, **options)


@pytest.mark.usefixtures("small_files")
def test_files_hold_a_number_of_rows(model, tmp_path):
    pictures = write_pictures(tmp_path / "in", 10)
    run(model, pictures, tmp_path / "out")
    lengths = sorted(shards.read_table(path).num_rows for path in (tmp_path / "out").glob("*.parquet"))
    assert lengths == [2, 4, 4]


@pytest.mark.parametrize(("name", "most"), [("_MOST_BYTES", 1), ("_MOST_SECONDS", 0.0)])
def test_a_file_is_written_when_it_is_large_or_late(model, tmp_path, monkeypatch, name, most):
    monkeypatch.setattr(local_run, name, most)
    run(model, write_pictures(tmp_path / "in", 6), tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 3


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_loses_nothing_that_was_written(model, tmp_path, monkeypatch):
    pictures = write_pictures(tmp_path / "in", 12)
    whole, written = shards.replace_whole, []

    def full(path, content):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        whole(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(shards, "replace_whole", full)
        with pytest.raises(OSError, match="No space left on device"):
            run(model, pictures, tmp_path / "out")
    assert len(rows_of(tmp_path / "out")) == 8
    summary = run(model, pictures, tmp_path / "out")
    assert (summary.explained, summary.before) == (4, 8)
    assert len(rows_of(tmp_path / "out")) == 12


def test_ctrl_c_writes_what_is_there(model, tmp_path):
    def interrupted():
        for number in range(4):
            yield {"image": np.full((2, 16, 12, 3), number, np.uint8), "id": [f"{number}a", f"{number}b"]}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, interrupted(), tmp_path / "out")
    assert 4 <= len(rows_of(tmp_path / "out")) <= 8


def test_a_failure_that_stays_keeps_its_row(model, tmp_path):
    pictures = write_pictures(tmp_path / "in", 4, broken=(1,))
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"1 of \d pictures could not be explained"):
            run(model, pictures, tmp_path / "out")
        (path,) = (tmp_path / "out").glob("*.parquet")
        before, path = path, path
    assert path == before
    write_pictures(tmp_path / "in", 4)
    assert run(model, pictures, tmp_path / "out").explained == 1
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 4
    assert all(row["failure"] is None for row in rows.values())
