"""Trainings read back from event files: which, and what of them. The reports of it are in tests/cli/test_report.py."""

from __future__ import annotations

import numpy as np
import pytest
import tab_runs

from keras_gradcam.errors import ArgumentError
from keras_gradcam.tensorboard_plugin import summary
from keras_gradcam.training.event_files import find_event_files, read_events, read_run, select_run
from keras_gradcam.training.history import compact
from keras_gradcam.training.writers.records import RecordWriter


def events_of(folder):
    return read_events(str(folder), find_event_files(str(folder))[str(folder)])


def written(folder, epochs=3, **options):
    tab_runs.write_run(folder, epochs=epochs, **options)


def test_event_files_are_found_by_folder_in_the_order_in_which_they_were_begun(tmp_path):
    names = ["events.out.tfevents.1700000002.b", "events.out.tfevents.1700000001.z"]
    for folder in ("run", "run/deep"):
        (tmp_path / folder).mkdir()
        for name in [*names, "notes.txt"]:
            (tmp_path / folder / name).touch()
    (tmp_path / "empty").mkdir()
    found = find_event_files(str(tmp_path))
    assert found == {str(tmp_path / folder): sorted(names) for folder in ("run", "run/deep")}


def test_a_run_is_what_was_logged(tmp_path):
    maps = tab_runs.moving_maps(4, 3)
    written(tmp_path, maps=maps, probes=3)
    run = select_run(events_of(tmp_path))
    assert [epoch.step for epoch in run.epochs] == list(range(len(maps) - 1))
    for epoch, expected in zip((run.start, *run.epochs), maps, strict=True):
        np.testing.assert_array_equal(epoch.maps, compact(expected))
    assert run.epochs[0].numbers.shape == (3, len(run.info.columns))
    assert run.epochs[0].partner_maps is None
    assert (run.is_finished, run.has_other_probes) == (False, False)


def test_a_torn_file_is_read_up_to_where_it_was_torn(tmp_path):
    written(tmp_path)
    (path,) = tmp_path.glob("*tfevents*")
    path.write_bytes(path.read_bytes()[:-7])
    run = select_run(events_of(tmp_path))
    assert len(run.epochs) >= 2


def test_a_broken_file_is_told_of_and_the_others_are_read(tmp_path):
    written(tmp_path)
    with open(tmp_path / "events.out.tfevents.9999999999.broken", "wb") as file:
        RecordWriter(file).write(b"no event")
    with pytest.warns(UserWarning, match=r"broken' can be read in part only"):
        run = select_run(events_of(tmp_path))
    assert len(run.epochs) == 3


def test_pictures_of_epochs_stay_on_disk(tmp_path):
    written(tmp_path)
    tags = set(events_of(tmp_path))
    assert {"gradcam_tab/run", "gradcam_tab/maps", "gradcam_tab/numbers", "gradcam_tab/pictures"} <= tags
    assert not {tag for tag in tags if "guided" in tag or "overview" in tag}


def test_a_later_version_is_told_of(tmp_path):
    writer = tab_runs.RunWriter(tmp_path)
    info = tab_runs.run_info(2)
    described = summary.run_summary(info)
    text = info.to_json().replace('"version":1', '"version":99')
    described.tensor.CopyFrom(summary.make_tensor_proto(np.array(text.encode(), object)))
    writer.add(0, described)
    writer.close()
    with pytest.raises(ValueError, match="later version"):
        select_run(events_of(tmp_path))


def test_nothing_is_no_run(tmp_path):
    assert select_run({}) is None
    writer = tab_runs.RunWriter(tmp_path)
    writer.add(0, summary.run_summary(tab_runs.run_info(2)))
    writer.close()
    assert select_run(events_of(tmp_path)) is None


def test_the_one_training_in_a_folder_is_found(tmp_path):
    written(tmp_path / "run1" / "gradcam")
    for folder in (tmp_path, tmp_path / "run1", tmp_path / "run1" / "gradcam"):
        assert len(read_run(str(folder)).epochs) == 3
    with pytest.raises(ArgumentError, match=r"`log_dir` must hold one training.*which holds none"):
        read_run(str(tmp_path / "run2"))
    written(tmp_path / "run2" / "gradcam")
    with pytest.raises(ArgumentError, match=r"which holds 2.*Candidates: .*run1.*run2"):
        read_run(str(tmp_path))
