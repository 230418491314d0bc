"""Rows in Parquet files: what pandas and DuckDB read, what is there once, what is removed."""

from __future__ import annotations

import os

import numpy as np
import pytest

from keras_gradcam.datasets.shards import ShardFolder, WrittenRows, read_table, to_table
from keras_gradcam.extras import import_pyarrow

pyarrow = import_pyarrow()


def rows(names, failed=(), **more):
    count = len(names)
    is_failed = np.array([name in failed for name in names])
    return {
        "id": np.array(names, object),
        "bytes": np.full(count, 5),
        "modified": np.arange(count),
        "class": np.where(is_failed, -1, 2).astype(np.int32),
        "score": np.where(is_failed, np.nan, 1.5).astype(np.float32),
        "layer": np.full(count, "conv", object),
        "gradcam": np.where(is_failed[:, None, None], np.nan, np.arange(6).reshape(2, 3) / 8).astype(np.float16),
        "failure": np.where(is_failed, "is broken", "").astype(object),
        **more,
    }


def test_values_come_back_and_what_is_missing_is_null(tmp_path):
    path = ShardFolder(tmp_path).write(rows(["a", "b"], failed="b"))
    first, second = read_table(path).to_pylist()
    assert first == {
        "id": "a", "bytes": 5, "modified": 0, "class": 2, "score": 1.5, "layer": "conv",
        "gradcam": [0, 0.125, 0.25, 0.375, 0.5, 0.625], "failure": None,
    }  # fmt: skip
    assert second == {
        "id": "b", "bytes": 5, "modified": 1, "class": None, "score": None, "layer": "conv",
        "gradcam": None, "failure": "is broken",
    }  # fmt: skip
    assert b'"gradcam": [2, 3]' in read_table(path).schema.metadata[b"keras_gradcam"]


def test_pandas_and_duckdb_read_the_files(tmp_path):
    pandas, duckdb = pytest.importorskip("pandas"), pytest.importorskip("duckdb")
    shards = ShardFolder(tmp_path)
    shards.write(rows(["a", "b"], failed="b"))
    shards.write(rows(["c"], label=np.array([4]), embedding=np.ones((1, 3), np.float32)))
    (tmp_path / "_run.json").write_text("{}")
    frame = pandas.read_parquet(tmp_path)
    assert sorted(frame["id"]) == ["a", "b", "c"]
    found = duckdb.sql(f"select id, list_max(gradcam), failure from '{tmp_path}/*.parquet' order by id").fetchall()
    assert found == [("a", 0.625, None), ("b", None, "is broken"), ("c", 0.625, None)]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint8])
def test_arrays_of_all_kinds_of_numbers(kind):
    table = to_table(rows(["a", "b"], embedding=np.array([[1, 2], [3, 4]], kind)))
    assert table["embedding"].to_pylist() == [[1, 2], [3, 4]]


def test_the_same_rows_lie_in_one_file_however_often_they_are_written(tmp_path):
    shards = ShardFolder(tmp_path)
    assert shards.write(rows(["a", "b"])) == shards.write(rows(["b", "a"]))
    assert len(shards.files()) == 1


def test_parts_do_not_see_each_other(tmp_path):
    first, second = ShardFolder(tmp_path, "0001-of-0002"), ShardFolder(tmp_path, "0002-of-0002")
    first.write(rows(["a"]))
    second.write(rows(["b"]))
    assert [len(part.files()) for part in (first, second)] == [1, 1]
    first.remove(["b"])
    assert len(WrittenRows(second)) == 1
    (tmp_path / f".{second.prefix}x.parquet.0123456789abcdef.unfinished").touch()
    first.remove_unfinished()
    assert list(tmp_path.glob(".*"))
    second.remove_unfinished()
    assert not list(tmp_path.glob(".*"))


def test_rows_are_removed_and_the_others_stay(tmp_path):
    shards = ShardFolder(tmp_path)
    shards.write(rows(["a", "b", "c"]))
    shards.write(rows(["d"]))
    shards.remove(["b", "d", "nowhere"])
    left = [row for path in shards.files() for row in read_table(path).to_pylist()]
    assert [row["id"] for row in left] == ["a", "c"]
    assert left[1]["modified"] == 2
    assert len(shards.files()) == 1


def test_what_is_done_has_changed_or_failed(tmp_path):
    shards = ShardFolder(tmp_path)
    shards.write(rows(["a", "b", "c"], failed="c"))
    shards.write(rows(["d"], modified=np.array([-1])))
    written = WrittenRows(shards)
    assert written.failures == {"c": "is broken"}
    ids = ["d", "a", "x", "b", "c", "b"]
    present, done = written.find(ids, [(5, 0), (5, 0), (5, 0), (5, 9), (5, 2), None])
    assert present.tolist() == [True, True, False, True, True, True]
    assert done.tolist() == [False, True, False, False, False, False]
    assert written.find(ids, None)[1].tolist() == [True, True, False, True, False, True], "without status the id tells"


def test_nothing_is_written_yet(tmp_path):
    written = WrittenRows(ShardFolder(tmp_path))
    assert len(written) == 0
    assert not written.find(["a"], [(1, 2)])[0].any()


def test_rows_that_are_there_twice_are_removed_once(tmp_path):
    """As a process leaves them that is killed between writing a file anew and removing the old one."""
    shards = ShardFolder(tmp_path)
    shards.write(rows(["a", "b", "c"]))
    shards.write(rows(["b", "c"]))
    shards.write(rows(["d"]))
    assert len(WrittenRows(shards)) == 4
    left = [row["id"] for path in shards.files() for row in read_table(path).to_pylist()]
    assert sorted(left) == ["a", "b", "c", "d"]


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "part-1.parquet"
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(OSError, match=r"part-1\.parquet' is no file of results, or a damaged one"):
        WrittenRows(ShardFolder(tmp_path))


@pytest.mark.parametrize("column", ["id", "failure", "bytes", "modified"])
@pytest.mark.parametrize("values", [[[1, 2]], [{"a": 1}], ["x" * 10]])
def test_files_that_somebody_else_wrote_are_refused_or_read(tmp_path, column, values):
    columns = {"id": ["a"], "failure": [None], "bytes": [1], "modified": [2], column: values}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "part-1.parquet")
    if column in ("id", "failure") and values == ["x" * 10]:
        assert len(WrittenRows(ShardFolder(tmp_path))) == 1
    else:
        with pytest.raises(OSError, match=r"part-1\.parquet' is no file of results"):
            WrittenRows(ShardFolder(tmp_path))


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "part-1.parquet")
    with pytest.raises(OSError, match="is no regular file"):
        WrittenRows(ShardFolder(tmp_path))
