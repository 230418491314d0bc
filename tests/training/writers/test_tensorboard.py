"""Event files: complete after every write, readable by TensorBoard, one timeline after a kill, without TensorFlow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from log_entries import RUN, entry, frame, tensors
from tab_server import Server
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray
from trainings import as_logged, decoded, events, fit, scalar, small_model

from keras_gradcam import GuidedGradCAMCallback, Probe
from keras_gradcam.drawing.filmstrips import Filmstrip, draw_filmstrip
from keras_gradcam.drawing.panels import cell, overview, panel
from keras_gradcam.drawing.pixels import Style
from keras_gradcam.errors import ArgumentError
from keras_gradcam.tensorboard_plugin.columns import COLUMNS
from keras_gradcam.tensorboard_plugin.metadata import ProbeInfo, RunInfo
from keras_gradcam.tensorboard_plugin.reader import START
from keras_gradcam.training.history import Recorder
from keras_gradcam.training.writers.background import BackgroundWriter
from keras_gradcam.training.writers.base import Summary
from keras_gradcam.training.writers.storage import LocalStorage, storage_of
from keras_gradcam.training.writers.tensorboard import TensorBoardWriter


def prepared(folder, run=RUN):
    writer = TensorBoardWriter(str(folder))
    writer.prepare(run)
    return writer


def write(writer, entry):
    """Writes numbers, and then pictures, as :class:`BackgroundWriter` does."""
    writer.write_numbers(entry)
    writer.write(entry)


# --- the file -------------------------------------------------------------------------------------------------------


def test_the_event_file_is_complete_after_every_write(tmp_path):
    writer = prepared(tmp_path)
    assert list(tmp_path.iterdir()) == []  # nothing is opened before there is something to write
    for epoch in (None, 0, 1):
        write(writer, entry(epoch))
        tag = "gradcam_start/overview" if epoch is None else "gradcam/overview"
        assert tensors(tmp_path)[tag][-1].step == (epoch or 0)
    writer.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_after_a_torn_record_a_new_file_begins(tmp_path, monkeypatch):
    writer = prepared(tmp_path)
    write(writer, entry(0))
    write_bytes = os.write

    def full(descriptor, content):
        write_bytes(descriptor, content[:20])
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="no space"):
            write(writer, entry(1))
    writer.write(entry(2))
    writer.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert [event.step for event in tensors(tmp_path)["gradcam/overview"]] == [0, 2]


def test_what_cannot_be_drawn_does_not_take_the_numbers_along(tmp_path):
    good = entry(0)
    writer = prepared(tmp_path)
    with pytest.raises(TypeError):
        write(writer, replace(good, frames=(replace(good.frames[0], caption=(None,)),)))
    writer.close()
    assert "gradcam/score_mean" in tensors(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="`log_dir` must be a folder that can be written to"):
        prepared(tmp_path / "file" / "logs")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("url", ["ram://tensorboard/run1", "memory://tensorboard/run1"])
def test_a_url_is_written_through_tensorflow_or_fsspec(tmp_path, url):
    if url.startswith("memory"):
        pytest.importorskip("fsspec")
    writer = prepared(url)
    write(writer, entry(0))
    writer.write(entry(1))
    for path, content in copied(url):
        (tmp_path / path.rsplit("/", 1)[-1]).write_bytes(content)
    writer.close()
    assert [event.step for event in tensors(tmp_path)["gradcam/overview"]] == [0, 1]


def copied(url):
    """The files of a remote folder with their content."""
    if url.startswith("ram"):
        import tensorflow as tf

        return [(name, tf.io.gfile.GFile(f"{url}/{name}", "rb").read()) for name in tf.io.gfile.listdir(url)]
    import fsspec

    memory = fsspec.filesystem("memory")
    return [(path, memory.cat_file(path)) for path in memory.glob(f"{url}/*")]


def test_event_files_need_no_tensorflow(tmp_path):
    """Written and read back in a process where `import tensorflow` fails."""
    program = textwrap.dedent(f"""
        import sys
        sys.modules["tensorflow"] = None
        import numpy as np
        from log_entries import RUN, entry
        from keras_gradcam.training.event_files import find_event_files, read_events, read_run
        from keras_gradcam.training.history import History
        from keras_gradcam.training.writers.tensorboard import TensorBoardWriter

        writer = TensorBoardWriter({str(tmp_path)!r})
        writer.prepare(RUN)
        for epoch in (None, 0, 1):
            writer.write_numbers(entry(epoch))
            writer.write(entry(epoch))
        writer.close()
        history = History.load({str(tmp_path)!r})
        assert history.epochs.tolist() == [0, 1]
        np.testing.assert_array_equal(history.maps, np.eye(2)[None, None].repeat(2, axis=0))
        assert not any(name.startswith("tensorflow.") for name in sys.modules)
        print("same maps")
    """)
    paths = os.pathsep.join([os.path.dirname(sys.modules["log_entries"].__file__), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert "same maps" in done.stdout, done.stderr[-2000:]


# --- the tags -------------------------------------------------------------------------------------------------------


def test_numbers_are_scalars_with_their_mean_and_how_many_are_missing(tmp_path):
    run = replace(RUN, info=replace(RUN.info, probes=(ProbeInfo(region=(0, 0, 1, 1)), ProbeInfo())))
    maps = np.stack([np.array([[3.0, 1.0]]), np.zeros((1, 2))])
    recorder = Recorder()
    recorder.watch([(0, 0, 1, 1)] * 2, (1, 2))
    writer = prepared(tmp_path, run)
    totals = {"similarity_gap": 0.5, "mean_ap": 0.25}
    for epoch in (None, 7):
        record = recorder.add(epoch, maps, {"score": np.array([1.0, 2.0])}, totals=totals)
        write(writer, replace(entry(epoch), record=record, frames=(frame(), frame())))
    writer.close()
    logged = {tag: scalar(data[-1]) for tag, data in tensors(tmp_path).items() if data[-1].tensor_proto.dtype == 1
              and "tab" not in tag}  # fmt: skip
    assert logged == {
        "gradcam_start/score_mean": 1.5,
        "gradcam_start/focus_mean": 0.5,
        "gradcam_start/mass_mean": 2.0,
        "gradcam_start/mass_inside_mean": 0.75,
        "gradcam_start/pointing_game_mean": 1.0,
        "gradcam_start/similarity_gap": 0.5,
        "gradcam_start/mean_ap": 0.25,
        "gradcam_pairs/similarity_gap": 0.5,
        "gradcam_retrieval/mean_ap": 0.25,
        "gradcam/score_mean": 1.5,
        "gradcam_probes/score/probe_00": 1.0,
        "gradcam_probes/score/probe_01": 2.0,
        "gradcam/focus_mean": 0.5,
        "gradcam_probes/focus/probe_00": 0.5,
        "gradcam_missing/focus": 1.0,
        "gradcam/mass_mean": 2.0,
        "gradcam_probes/mass/probe_00": 4.0,
        "gradcam_probes/mass/probe_01": 0.0,
        "gradcam_missing/mass": 0.0,
        "gradcam/mass_inside_mean": 0.75,
        "gradcam_probes/mass_inside/probe_00": 0.75,
        "gradcam_missing/mass_inside": 1.0,
        "gradcam/pointing_game_mean": 1.0,
        "gradcam_probes/pointing_game/probe_00": 1.0,
        "gradcam_missing/pointing_game": 1.0,
        "gradcam/similarity_previous_mean": 1.0,
        "gradcam_probes/similarity_previous/probe_00": 1.0,
        "gradcam_missing/similarity_previous": 1.0,
        "gradcam/similarity_first_mean": 1.0,
        "gradcam_probes/similarity_first/probe_00": 1.0,
        "gradcam_missing/similarity_first": 1.0,
        "gradcam/center_shift_mean": 0.0,
        "gradcam_probes/center_shift/probe_00": 0.0,
        "gradcam_missing/center_shift": 1.0,
    }


def test_filmstrips_and_the_report_come_at_the_step_of_the_last_epoch(tmp_path):
    recorder = Recorder()
    recorder.add(3, np.eye(2)[None], {"score": np.ones(1)})
    filmstrip = Filmstrip((frame(), frame()), (("a",), ("b",)), (np.nan, 1.0))
    writer = prepared(tmp_path)
    writer.summarize(Summary(recorder.history(), (filmstrip,), "# report"))
    writer.close()
    logged = tensors(tmp_path)
    (report,), (picture,) = logged["gradcam/report"], logged["gradcam_summary/filmstrip_00"]
    assert (report.step, make_ndarray(report.tensor_proto).item()) == (3, b"# report")
    np.testing.assert_array_equal(decoded(picture), as_logged(draw_filmstrip(filmstrip)))


@pytest.mark.parametrize("images", ["panels", "overview", None])
def test_as_much_is_drawn_for_the_images_tab_as_the_style_wants(data, tmp_path, images):
    style = Style(images=images)
    callback = GuidedGradCAMCallback(Probe(data, limit=2), tmp_path, style=style, filters=True, on_error="raise")
    fit(small_model(), data, callback, epochs=2)
    logged = events(tmp_path)
    drawn = {tag for tag in logged if tag.split("/")[0] in ("gradcam", "gradcam_start", "gradcam_summary")}
    drawn = {tag for tag in drawn if not tag.endswith(("_mean", "/report"))}
    wanted = {
        "gradcam/overview",
        "gradcam_start/overview",
        "gradcam_summary/filmstrip_00",
        "gradcam_summary/filmstrip_01",
    }
    wanted |= {f"gradcam{start}/probe_{index:02d}" for start in ("", "_start") for index in (0, 1)}
    expected = {tag for tag in wanted if images == "panels" or "filmstrip" in tag or "overview" in tag}
    assert drawn == (expected if images else set())
    # All else stays.
    assert {"gradcam_tab/maps", "gradcam_tab/guided", "gradcam/score_mean", "gradcam_filters/kernels"} <= set(logged)


def test_cells_that_panels_and_overview_share_are_drawn_alike():
    frames = [frame(), replace(frame(), partner=frame())]
    cells = [cell(one, Style()) for one in frames]
    np.testing.assert_array_equal(overview(frames, "title", Style(), cells), overview(frames, "title", Style()))
    for one, drawn in zip(frames, cells, strict=True):
        np.testing.assert_array_equal(panel(one, Style(), drawn), panel(one, Style()))


def test_the_tab_gets_every_epoch(data, tmp_path):
    box = (1, 2, 5, 6)
    callback = GuidedGradCAMCallback(
        Probe(data, limit=2, regions=[box, np.ones((16, 12))]),
        tmp_path,
        class_names=["cat", "dog", "cow"],
        style=Style(colormap="viridis", scale="frame"),
    )
    fit(small_model(), data, callback, epochs=3)
    logged = events(tmp_path)
    info = RunInfo.from_json(make_ndarray(logged["gradcam_tab/run"][0].tensor_proto).item())
    assert info.columns == COLUMNS
    assert info.class_names == {0: "cat", 1: "dog", 2: "cow"}
    assert [probe.label for probe in info.probes] == [0, 1]
    assert [probe.region for probe in info.probes] == [box, (0, 0, 12, 16)]
    assert (info.explained.layer, info.input_size) == ("last", (16, 12))
    assert (info.colormap, info.scale) == ("viridis", "frame")
    for index, record in enumerate(callback._recorder.records):
        np.testing.assert_array_equal(make_ndarray(logged["gradcam_tab/maps"][index].tensor_proto), record.maps)
        np.testing.assert_array_equal(make_ndarray(logged["gradcam_tab/numbers"][index].tensor_proto), record.numbers)
    assert len(make_ndarray(logged["gradcam_tab/pictures"][0].tensor_proto)) == 2
    assert len(logged["gradcam_tab/guided"]) == 3
    assert len(logged["gradcam_tab/start_maps"]) == 1


# --- a training killed with SIGKILL and resumed with `initial_epoch` ------------------------------------------------

PROGRAM = textwrap.dedent("""
    import sys
    import keras, numpy as np
    from keras_gradcam import GuidedGradCAMCallback, Probe

    log_dir, first, epochs, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    keras.utils.set_random_seed(seed)
    x, y = np.random.default_rng(0).random((8, 16, 16, 3)), np.arange(8) % 2
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
                              keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    callback = GuidedGradCAMCallback(Probe((x, y), limit=2), log_dir)
    model.fit(x, keras.ops.one_hot(y, 2), initial_epoch=first, epochs=epochs, verbose=0, callbacks=[callback])
    np.savez(log_dir + "/" + str(seed), maps=callback.history.maps, epochs=callback.history.epochs)
""")


def train(log_dir, first, epochs, seed):
    arguments = [sys.executable, "-c", PROGRAM, str(log_dir), str(first), str(epochs), str(seed)]
    return subprocess.Popen(arguments, stderr=subprocess.DEVNULL)


def logged_epochs(log_dir):
    return [event.step for event in events(log_dir).get("gradcam/overview", ())] if any(log_dir.glob("*/e*")) else []


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The log folder, the events of the killed training, and the maps of the one that went on from epoch 3."""
    log_dir = tmp_path_factory.mktemp("logs")
    killed = train(log_dir, 0, 100_000, seed=1)
    deadline = time.time() + 120
    while time.time() < deadline and killed.poll() is None and len(logged_epochs(log_dir)) < 6:
        time.sleep(0.3)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = events(log_dir)
    assert train(log_dir, 3, 7, seed=2).wait(timeout=300) == 0
    with np.load(log_dir / "2.npz") as stored:
        assert stored["epochs"].tolist() == [3, 4, 5, 6]
        return log_dir, before, stored["maps"]


def test_the_event_file_can_be_read_after_kill_9(resumed):
    _, before, _ = resumed
    for tag in ("gradcam/overview", "gradcam_tab/maps"):
        logged = [event.step for event in before[tag]]
        assert len(logged) >= 6
        assert logged == list(range(len(logged)))


@pytest.mark.parametrize("loader", ["fast", "slow"])
def test_one_timeline(resumed, loader):
    log_dir, before, after = resumed
    server = Server(log_dir, loader)
    try:
        server.wait_for(lambda server: server.runs().get("gradcam", {}).get("last_epoch") == 6)
        served, unreadable = server.series("/maps", "gradcam")
        numbers, _ = server.series("/numbers", "gradcam")
    finally:
        server.close()
    assert unreadable == 0
    assert list(served) == list(numbers) == [START, 0, 1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal([served[epoch] for epoch in (3, 4, 5, 6)], after.astype(served[3].dtype))
    for event in before["gradcam_tab/maps"][:3]:
        np.testing.assert_array_equal(served[event.step], make_ndarray(event.tensor_proto))


def test_the_start_of_the_training_is_kept(resumed):
    log_dir, _, _ = resumed
    assert len(events(log_dir)["gradcam_start/overview"]) == 1


# --- what goes wrong in the middle ----------------------------------------------------------------------------------


def sessions(folder):
    """The steps of all SessionLog STARTs, file by file."""
    return [
        [event.step for event in EventFileLoader(str(path)).Load() if event.HasField("session_log")]
        for path in sorted(folder.glob("*tfevents*"))
    ]


def disk_is_full(monkeypatch, after=20):
    """From now on a write stops after so many bytes."""
    write_bytes = os.write

    def full(descriptor, content):
        write_bytes(descriptor, content[:after])
        raise OSError("no space left")

    monkeypatch.setattr(os, "write", full)


def test_only_the_first_file_of_a_training_says_that_it_begins(tmp_path, monkeypatch):
    """A second START would make TensorBoard drop the numbers and maps of the epoch whose pictures failed."""
    writer = prepared(tmp_path)
    write(writer, entry(0))
    writer.write_numbers(entry(1))
    with monkeypatch.context() as patch:
        disk_is_full(patch)
        with pytest.raises(OSError, match="no space"):
            writer.write(entry(1))
    writer.summarize(Summary(history_of(1), (), "# report"))
    writer.close()
    assert sessions(tmp_path) == [[0], []]
    logged = tensors(tmp_path)
    assert [event.step for event in logged["gradcam_tab/maps"]] == [0, 1]
    assert [event.step for event in logged["gradcam/score_mean"]] == [0, 1]
    assert "gradcam/report" in logged


def history_of(epoch):
    recorder = Recorder()
    recorder.add(epoch, np.eye(2)[None], {"score": np.ones(1)})
    return recorder.history()


def test_a_training_whose_first_epoch_failed_begins_where_it_should_have(tmp_path, monkeypatch):
    write(prepared(tmp_path), entry(5))
    writer = prepared(tmp_path)
    with monkeypatch.context() as patch:
        disk_is_full(patch)
        with pytest.raises(OSError, match="no space"):
            writer.write_numbers(entry(5))
    writer.write_numbers(entry(6))
    writer.close()
    assert sessions(tmp_path) == [[5], [5]]


def test_a_full_disk_gathers_no_empty_files(tmp_path, monkeypatch):
    writer = prepared(tmp_path)
    write(writer, entry(0))
    with monkeypatch.context() as patch:
        disk_is_full(patch)
        for epoch in range(1, 6):
            for action in (writer.write_numbers, writer.write):
                with pytest.raises(OSError, match="no space"):
                    action(entry(epoch))
    assert len(list(tmp_path.iterdir())) == 1
    write(writer, entry(6))
    writer.close()
    assert [event.step for event in tensors(tmp_path)["gradcam_tab/maps"]] == [0, 6]


def test_a_file_that_cannot_be_opened_costs_no_earlier_one(tmp_path, monkeypatch):
    writer = prepared(tmp_path)
    write(writer, entry(0))
    with monkeypatch.context() as patch:
        disk_is_full(patch)
        with pytest.raises(OSError, match="no space"):
            writer.write(entry(0))
    for name in ("make_folder", "create"):
        with monkeypatch.context() as patch:
            patch.setattr(LocalStorage, name, lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                writer.write_numbers(entry(1))
    writer.write_numbers(entry(2))
    writer.close()
    assert [event.step for event in tensors(tmp_path)["gradcam_tab/maps"]] == [0, 2]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_gone_is_noticed(tmp_path, replaced):
    folder = tmp_path / "logs"
    writer = prepared(folder)
    write(writer, entry(0))
    folder.rename(tmp_path / "away")
    if replaced:
        folder.mkdir()
    with pytest.warns(RuntimeWarning, match="was removed or replaced while training went on") as caught:
        write(writer, entry(1))
    write(writer, entry(2))
    writer.close()
    assert len(caught) == 1
    logged = tensors(folder)
    assert [event.step for event in logged["gradcam_tab/maps"]] == [1, 2]
    assert {"gradcam_tab/run", "gradcam_tab/pictures"} <= set(logged)
    assert [event.step for event in tensors(tmp_path / "away")["gradcam_tab/maps"]] == [0]


@pytest.mark.parametrize("url", ["ram://gone/run1", "memory://gone/run1"])
def test_a_remote_file_that_is_gone_is_noticed(tmp_path, url):
    if url.startswith("memory"):
        pytest.importorskip("fsspec")
    writer = prepared(url)
    write(writer, entry(0))
    storage = storage_of(url)
    for name in storage.names(url):
        storage.remove(storage.join(url, name))
    with pytest.warns(RuntimeWarning, match="was removed or replaced"):
        writer.write_numbers(entry(1))
    writer.close()
    (name,) = storage.names(url)
    assert storage.modified(storage.join(url, name)) >= 0
    for path, content in copied(url):
        (tmp_path / path.rsplit("/", 1)[-1]).write_bytes(content)
    assert [event.step for event in tensors(tmp_path)["gradcam_tab/maps"]] == [1]


def test_a_clock_that_was_set_back_does_not_hide_the_later_training(tmp_path, monkeypatch):
    """Files come in order, and so do the times in them."""
    clock = time.time
    write(prepared(tmp_path), entry(0))
    monkeypatch.setattr(time, "time", lambda: clock() - 3600)
    writer = prepared(tmp_path)
    write(writer, entry(0))
    monkeypatch.setattr(time, "time", lambda: clock() - 7200)
    write(writer, entry(1))
    writer.close()
    times = [[event.wall_time for event in EventFileLoader(str(path)).Load()] for path in sorted(tmp_path.iterdir())]
    assert len(times) == 2
    assert times[0] + times[1] == sorted({*times[0], *times[1]})
    assert times[1][-1] - times[1][0] < 60


def test_names_of_files_are_in_order_within_a_second(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.5)
    for epoch in range(12):
        writer = prepared(tmp_path)
        writer.write_numbers(entry(epoch))
        writer.close()
    logged = [event.step for event in tensors(tmp_path)["gradcam_tab/maps"]]
    assert logged == list(range(12))


def test_numbers_are_written_in_the_thread_of_the_training(tmp_path):
    """What is small is in the file before the epoch ends, however long the pictures take."""
    drawn = threading.Event()

    class Slow(TensorBoardWriter):
        def write(self, entry):
            drawn.wait()
            super().write(entry)

    writer = BackgroundWriter(Slow(str(tmp_path)))
    writer.prepare(RUN)
    writer.write(entry(0))
    writer.write(entry(1))
    logged = tensors(tmp_path)
    assert [event.step for event in logged["gradcam_tab/maps"]] == [0, 1]
    assert "gradcam/overview" not in logged
    drawn.set()
    writer.close()
    assert [event.step for event in tensors(tmp_path)["gradcam/overview"]] == [0, 1]


def test_a_second_process_is_told_and_logs_beside_the_first(data, tmp_path):
    hold = (
        "import sys, time; from keras_gradcam.files import lock_folder; "
        "lock_folder(sys.argv[1]); print(1, flush=True); time.sleep(60)"
    )
    (tmp_path / "gradcam").mkdir()
    other = subprocess.Popen([sys.executable, "-c", hold, tmp_path / "gradcam"], stdout=subprocess.PIPE, text=True)
    try:
        other.stdout.readline()
        callback = GuidedGradCAMCallback(Probe(data, limit=2), tmp_path, on_error="raise")
        with pytest.warns(UserWarning, match=r"Another process writes to .* logged in .*gradcam-2"):
            fit(small_model(), data, callback, epochs=1)
    finally:
        other.kill()
        other.communicate()
    assert list((tmp_path / "gradcam").iterdir()) == []
    assert "gradcam_tab/maps" in tensors(tmp_path / "gradcam-2")
