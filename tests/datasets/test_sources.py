"""Where rows come from: each picture once, in its part, unless it is done."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cli_models import jpeg_bytes, picture
from hypothesis import given
from hypothesis import strategies as st

from keras_gradcam.datasets.columns import read_columns
from keras_gradcam.datasets.shards import ShardFolder, WrittenRows
from keras_gradcam.datasets.sources import Part, TableSource, open_source, read_part
from keras_gradcam.errors import ArgumentError
from keras_gradcam.extras import import_pyarrow


def opened(tmp_path, source, columns=None, part=Part(), size=3):  # noqa: B008
    (tmp_path / "out").mkdir(exist_ok=True)
    written = WrittenRows(ShardFolder(tmp_path / "out"))
    with ThreadPoolExecutor(2) as pool:
        return open_source(source, read_columns(columns), part, written, pool, size)


def ids(source, size=3, column="id"):
    return [str(name) for rows in source.batches(size) for name in rows[column]]


@given(st.lists(st.text(min_size=1), unique=True, max_size=50), st.integers(1, 20))
def test_every_picture_falls_to_one_part(names, count):
    owners = np.sum([Part(number, count).owns(names) for number in range(1, count + 1)], axis=0)
    assert (owners == 1).all()


def test_parts_are_about_equal():
    names = [f"/data/{number}.jpg" for number in range(8000)]
    shares = [Part(number, 8).owns(names).sum() for number in range(1, 9)]
    assert min(shares) > 900
    assert max(shares) < 1100


@pytest.mark.parametrize(("shard", "expected"), [(None, Part()), ("3/16", Part(3, 16)), ((1, 2), Part(1, 2))])
def test_parts_that_are_understood(shard, expected):
    assert read_part(shard) == expected


@pytest.mark.parametrize("shard", ["", "3", "0/4", "5/4", "a/b", "1/2/3", 7, (1,), "-1/4"])
def test_parts_that_are_not(shard):
    with pytest.raises(ArgumentError, match="`shard` must be NUMBER/COUNT"):
        read_part(shard)


def test_files_are_found_with_their_status(tmp_path, pictures):
    source = opened(tmp_path, str(pictures))
    assert source.total == 20
    (first, *_) = source.batches(7)
    assert (
        first["id"].tolist() == first["image"].tolist() == [str(pictures / f"p{number:03d}.jpg") for number in range(7)]
    )
    assert first["__bytes__"][0] == (pictures / "p000.jpg").stat().st_size
    assert len(ids(source)) == 20
    assert ids(opened(tmp_path, [pictures / "p003.jpg", str(pictures / "p01*.jpg")]))[:2] == [
        str(pictures / "p003.jpg"),
        str(pictures / "p010.jpg"),
    ]


def test_parts_of_a_folder(tmp_path, pictures):
    parts = [ids(opened(tmp_path, str(pictures), part=Part(number, 3))) for number in (1, 2, 3)]
    assert sorted(itertools.chain(*parts)) == ids(opened(tmp_path, str(pictures)))


def test_tables(tmp_path, pictures):
    paths = [str(pictures / "p000.jpg"), str(pictures / "p001.jpg")]
    table = {"file": paths, "label": [3, 4], "key": [7, 8]}
    source = opened(tmp_path, table, {"image": "file", "id": "key", "label": "label"})
    (rows,) = source.batches(9)
    assert rows["key"].tolist() == ["7", "8"]
    assert rows["label"].tolist() == [3, 4]
    assert (rows["__bytes__"] > 0).all()
    arrays = opened(tmp_path, {"image": np.zeros((5, 4, 4, 3), np.uint8)})
    assert isinstance(arrays, TableSource)
    assert ids(arrays) == ["0", "1", "2", "3", "4"]
    pandas = pytest.importorskip("pandas")
    assert ids(opened(tmp_path, pandas.DataFrame({"image": paths, "id": ["a", "b"]}))) == ["a", "b"]


def test_ids_that_are_bytes_are_text(tmp_path):
    assert ids(opened(tmp_path, [{"image": [1, 2], "id": [b"a", "\u00e9".encode()]}])) == ["a", "\u00e9"]


def test_parquet_is_read_a_few_rows_at_a_time(tmp_path):
    pyarrow = import_pyarrow()
    folder = tmp_path / "data"
    folder.mkdir()
    for part in range(2):
        table = pyarrow.table(
            {"jpg": [jpeg_bytes(number) for number in range(4)], "cls": [part] * 4, "heavy": ["x" * 1000] * 4}
        )
        pyarrow.parquet.write_table(table, folder / f"{part}.parquet", row_group_size=3)
    columns = {"image": "jpg", "label": "cls"}
    source = opened(tmp_path, str(folder), columns)
    assert source.total == 8
    batches = list(source.batches(3))
    assert [len(rows["jpg"]) for rows in batches] == [3, 3, 2]
    assert set(batches[0]) == {"jpg", "cls", "id"}
    assert isinstance(batches[0]["jpg"][0], bytes)
    names = [name for rows in batches for name in rows["id"]]
    assert names == [f"{part}.parquet#{number}" for part in range(2) for number in range(4)]
    halves = [ids(opened(tmp_path, str(folder), columns, Part(number, 2))) for number in (1, 2)]
    assert sorted(itertools.chain(*halves)) == names


def test_iterables_of_batches(tmp_path):
    def batches():
        yield {"image": [picture(0), picture(1, size=(9, 8))], "id": ["a", "b"]}
        yield {"image": np.stack([picture(2), picture(3)]), "id": ["c", "d"]}

    (rows, last) = opened(tmp_path, batches()).batches(3)
    assert rows["id"].tolist() == ["a", "b", "c"]
    assert [image.shape for image in rows["image"]] == [(30, 40, 3), (9, 8, 3), (30, 40, 3)]
    assert last["id"].tolist() == ["d"]
    assert ids(opened(tmp_path, iter([{"image": [1, 2]}, {"image": [3]}]))) == ["0", "1", "2"]


@pytest.mark.parametrize("kind", ["table", "stream"])
def test_an_id_that_is_there_twice_is_refused(tmp_path, kind):
    batches = [{"image": [1, 2], "id": ["a", "b"]}, {"image": [3], "id": ["a"]}]
    source = {"image": [1, 2, 3], "id": ["a", "b", "a"]} if kind == "table" else batches
    with pytest.raises(ArgumentError, match=r"name ids that tell all pictures apart. Received: 'a' twice"):
        ids(opened(tmp_path, source))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, "`source` must be a data set"),
        (np.zeros((2, 4, 4, 3)), "`source` must be a data set"),
        ("nowhere", "`source` must be there. Received: 'nowhere'"),
        ("s3://bucket/pictures", "Candidates: engine='ray'"),
        ("data.tfrecord", "Candidates: engine='ray'"),
        ([1, 2], "give dicts of columns"),
        ({"image": [1, 2], "id": ["a"]}, "`source` must have one row for each picture in all columns"),
        ([{"image": [1, 2], "id": ["a"]}], "`source` must have one row for each picture in all columns"),
    ],
)
def test_what_is_no_data_set(tmp_path, source, message):
    with pytest.raises(ArgumentError, match=message):
        ids(opened(tmp_path, source))
