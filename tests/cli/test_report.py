"""`keras-gradcam report`: what the callback reported, read back from event files, of resumed trainings too."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tab_runs
from cli_models import SIZE, network, picture, run
from reid_models import CAMERAS, IDENTITIES, N, embedding_model
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.util.tensor_util import make_tensor_proto

from keras_gradcam import GuidedGradCAMCallback, Similarity
from keras_gradcam.cli import report
from keras_gradcam.reid import Gallery
from keras_gradcam.tensorboard_plugin import summary
from keras_gradcam.training.history import compact

PIECES = [(0, 3), (3, 6)]


def rows(text):
    """The first table by its first column."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {first: rest for first, *rest in cells if len(rest) == 4}


def reported(capsys, folder):
    assert run("report", folder) == 0
    return capsys.readouterr().out


def trained(folder, pieces, shift=0):
    """Trains with a new callback for each piece, as a new process would; the last callback."""
    keras.utils.set_random_seed(1)
    model = network()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    images = np.stack([picture(number, SIZE) for number in range(6)]).astype("float32")
    labels = np.arange(6) % 3
    for place, (first, epochs) in enumerate(pieces):
        probe = np.roll(images, shift * place, axis=0), labels
        callback = GuidedGradCAMCallback(probe, folder, methods="gradcam", on_error="raise")
        model.fit(
            images, labels, initial_epoch=first, epochs=epochs, shuffle=False, verbose=0, callbacks=[callback]
        )  # fmt: skip
    return callback


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """Log folder and report of a finished training."""
    folder = tmp_path_factory.mktemp("training")
    keras.utils.set_random_seed(1)
    model = network()
    model.compile("adam", "sparse_categorical_crossentropy")
    images = np.stack([picture(number, SIZE) for number in range(6)]).astype("float32")
    labels = np.arange(6) % 3
    callback = GuidedGradCAMCallback((images, labels), folder, class_names=["cat", "wild cat", "dog"])
    model.fit(images, labels, epochs=3, verbose=0, callbacks=[callback])
    return folder, callback.report()


def test_the_report_of_a_finished_training(training, capsys):
    folder, expected = training
    for where in (folder, folder / "gradcam"):
        assert run("report", where) == 0
        assert capsys.readouterr().out == expected + "\n"


def test_the_report_of_a_training_that_was_interrupted(training, tmp_path, capsys):
    """Event files up to the report, which comes last, and torn in the middle of the next record."""
    folder, expected = training
    (path,) = (folder / "gradcam").iterdir()
    content, ends = path.read_bytes(), []
    place = 0
    while place < len(content):
        length = int.from_bytes(content[place : place + 8], "little")
        event = Event.FromString(content[place + 12 : place + 12 + length])
        if any(value.tag.startswith(("gradcam_filmstrip", "gradcam/report")) for value in event.summary.value):
            break
        place += length + 16
        ends.append(place)
    (tmp_path / "run" / "gradcam").mkdir(parents=True)
    (tmp_path / "run" / "gradcam" / path.name).write_bytes(content[: place + 9])
    assert run("report", tmp_path) == 0
    head, _, rest = capsys.readouterr().out.partition("\n\n")
    assert head == "The training has not come to its end; this is how far it got."
    assert rest == expected + "\n"


def test_reports_of_several_runs(tmp_path, capsys):
    for name, epochs in (("a", 4), ("b", 6)):
        tab_runs.write_run(tmp_path / name, epochs=epochs)
    assert run("report", tmp_path) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^# (\w+)$", out, re.MULTILINE) == ["a", "b"]
    assert re.findall(r"^(\d) epochs logged", out, re.MULTILINE) == ["4", "6"]
    assert "| 01 dog |" in out


def test_runs_that_hold_little(tmp_path, capsys):
    tab_runs.write_run(tmp_path / "none", epochs=0, start=False)
    assert run("report", tmp_path / "none") == 0
    assert "No epoch was logged." in capsys.readouterr().out
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "events.out.tfevents.1.gradcam").write_bytes(b"\x01\x02nonsense" * 9)
    (tmp_path / "empty").mkdir()
    for name in ("torn", "empty"):
        assert run("report", tmp_path / name) == 2
        assert "no training was logged by GuidedGradCAMCallback" in capsys.readouterr().err
    assert run("report", tmp_path / "gone") == 2
    assert "LOGDIR must be a folder" in capsys.readouterr().err


def test_a_resumed_training_is_reported_as_a_whole(tmp_path, capsys):
    """What is reported of two pieces is, word for word, what one uninterrupted training would say."""
    whole = trained(tmp_path / "whole", [(0, 6)]).report()
    resumed = trained(tmp_path / "resumed", PIECES)
    assert "3 epochs logged, 3 to 5;" in resumed.report()
    text = reported(capsys, tmp_path / "resumed")
    assert text == whole + "\n"
    assert text.startswith("6 epochs logged, 0 to 5; 6 probes.")
    assert rows(text)["score"][0] != "-"
    assert text == reported(capsys, tmp_path / "whole")


def test_what_was_logged_of_other_probes_is_left_out(tmp_path, capsys):
    last = trained(tmp_path, PIECES, shift=3)
    expected = "What was logged of other probes before is left out.\n\n" + last.report() + "\n"
    assert reported(capsys, tmp_path) == expected


def test_other_probes_in_another_number_are_left_out(tmp_path, capsys):
    tab_runs.write_run(tmp_path, epochs=3, probes=4)
    tab_runs.write_run(tmp_path, maps=tab_runs.moving_maps(6, 2), probes=2, begin=3, start=False)
    text = reported(capsys, tmp_path)
    assert "3 epochs logged, 3 to 5; 2 probes." in text
    assert "other probes before is left out" in text


def test_a_training_that_began_anew_is_alone(tmp_path, capsys):
    tab_runs.write_run(tmp_path, epochs=5)
    maps = tab_runs.moving_maps(8, 4, seed=5)
    writer = tab_runs.write_run(tmp_path, maps=maps[:1], close=False)[1]
    for epoch in (3, 7):  # every fourth epoch: none of the first training is written again until then
        numbers = tab_runs.numbers_for(maps[epoch + 1], maps[epoch], maps[0], [0, 1, 2, 0], epoch)
        writer.add(epoch, summary.maps_summary(compact(maps[epoch + 1])), summary.numbers_summary(numbers))
    writer.close()
    assert "2 epochs logged, 3 to 7; 4 probes." in reported(capsys, tmp_path)


def test_numbers_of_a_gallery_are_reported_from_the_log(tmp_path, capsys):
    pictures = np.random.default_rng(0).random((N, 20, 12, 3), dtype=np.float32)
    gallery = Gallery((pictures, IDENTITIES, CAMERAS), query=(pictures[::3], IDENTITIES[::3], CAMERAS[::3]), every=2)
    model = embedding_model()
    options = {"target": Similarity(), "methods": "gradcam", "gallery": gallery, "on_error": "raise"}
    for first, epochs in ((0, 5), (3, 6)):
        callback = GuidedGradCAMCallback((pictures[:8], IDENTITIES[:8]), tmp_path, **options)
        model.fit(
            pictures, IDENTITIES, initial_epoch=first, epochs=epochs, batch_size=8, verbose=0, callbacks=[callback]
        )  # fmt: skip
        text = reported(capsys, tmp_path)
        if first == 0:
            assert text == callback.report() + "\n"
            assert rows(text)["mean ap"][1].endswith("(epoch 1)")
    assert text.startswith("6 epochs logged, 0 to 5; 8 probes.")
    assert "| 00 identity 0 |" in text
    # Logged at 1, 3 and 4; then anew at 4 and 5.
    later = callback.history.totals
    assert rows(text)["mean ap"][2] == f"{later['mean_ap'][-1]:.3g}"
    assert rows(text)["similarity gap"][2] == f"{later['similarity_gap'][-1]:.3g}"


@pytest.mark.parametrize(("again", "expected"), [({}, "0.25 (epoch 0)"), ({"mean_ap": 0.75}, "0.75")])
def test_a_number_goes_with_the_epoch_it_was_written_with(tmp_path, capsys, again, expected):
    """Epoch 1 is written again: what was known of it before is void, even if it is not known any more."""

    def scalars(values):
        values = [(f"gradcam_retrieval/{name}", np.float32(value)) for name, value in values.items()]
        return [Summary.Value(tag=tag, tensor=summary.make_tensor_proto(value)) for tag, value in values]

    maps = tab_runs.moving_maps(2, 4)
    writer = tab_runs.write_run(tmp_path, maps=maps[:1], close=False)[1]
    for epoch, totals in ((0, {"mean_ap": 0.25}), (1, {"mean_ap": 0.5}), (1, again)):
        numbers = tab_runs.numbers_for(maps[1], None, maps[0], [0, 1, 2, 0], epoch)
        writer.add(epoch, *scalars(totals))
        writer.add(epoch, summary.numbers_summary(numbers), summary.maps_summary(compact(maps[epoch + 1])))
    writer.close()
    assert rows(reported(capsys, tmp_path))["mean ap"][2] == expected


def test_a_first_map_that_is_empty_is_told_of(tmp_path, capsys):
    maps = tab_runs.moving_maps(3, 4)
    maps[0] = 0
    tab_runs.write_run(tmp_path, maps=maps)
    text = reported(capsys, tmp_path)
    assert rows(text)["similarity first"] == ["-", "-", "-", "4"]
    assert "The first map (start) of 4 of 4 probes is zero everywhere" in text


def test_the_rest_of_a_report_survives_without_a_description(tmp_path, capsys):
    writer = tab_runs.RunWriter(tmp_path)
    written = Summary.Value(tag="gradcam/report", tensor=summary.make_tensor_proto(np.array(b"the text", object)))
    writer._write(Event(wall_time=1, step=3, summary=Summary(value=[written])))
    writer.close()
    assert reported(capsys, tmp_path) == "the text\n"


def test_one_damaged_run_does_not_take_the_others_along(tmp_path, capsys):
    tab_runs.write_run(tmp_path / "good", epochs=2, probes=2)
    writer = tab_runs.RunWriter(tmp_path / "later")
    later = tab_runs.run_info(2).to_json().replace('"version":1', '"version":99')
    writer.add(0, Summary.Value(tag="gradcam_tab/run", tensor=make_tensor_proto(np.array(later.encode(), object))))
    writer.close()
    out = reported(capsys, tmp_path)
    assert "# good\n\nThe training has not come to its end" in out
    assert "2 epochs logged" in out
    assert "# later\n\nThe run was written by a later version" in out


def test_a_run_that_cannot_be_read_is_named(tmp_path, capsys, monkeypatch):
    for name in ("bad", "good"):
        tab_runs.write_run(tmp_path / name, epochs=2, probes=2)
    read = report.read_events

    def broken(folder, files):
        if folder.endswith("bad"):
            raise RuntimeError("who knows")
        return read(folder, files)

    monkeypatch.setattr(report, "read_events", broken)
    assert run("report", tmp_path) == 1
    captured = capsys.readouterr()
    assert "2 epochs logged" in captured.out
    assert re.search(r"'.*bad' cannot be read: who knows", captured.err)


def test_values_that_cannot_be_read_cost_nothing_else(tmp_path, capsys):
    """Not one that fills the memory: a few bytes stand for 4 GB."""
    tab_runs.write_run(tmp_path, epochs=2, probes=2)
    writer = tab_runs.RunWriter(tmp_path)
    huge = make_tensor_proto(np.float32([1]), shape=[1])
    huge.tensor_shape.dim[0].size = 1 << 30
    writer.add(2, Summary.Value(tag="gradcam_tab/maps", tensor=huge))
    writer.add(2, Summary.Value(tag="gradcam_tab/numbers", tensor=make_tensor_proto(np.ones((2, 2, 2), np.float32))))
    writer.close()
    assert run("report", tmp_path) == 0
    captured = capsys.readouterr()
    assert "2 epochs logged" in captured.out
    assert "can be read in part only: gradcam_tab/maps at step 2: more than" in captured.err
