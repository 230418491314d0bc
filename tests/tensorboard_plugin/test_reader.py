"""What is read back of real event files, with both of TensorBoard's loaders."""

import numpy as np
import pytest
import tab_runs
from tab_server import both_loaders, complete

from keras_gradcam.tensorboard_plugin import metadata, summary
from keras_gradcam.tensorboard_plugin.reader import START
from keras_gradcam.tensorboard_plugin.wire import unpack


@both_loaders
@pytest.mark.parametrize("session", [True, False])
def test_a_killed_and_resumed_run_is_one_timeline(serve, tmp_path, loader, session):
    """Epochs 0 to 7, killed while writing, resumed at 5 with other maps, as far as 6: 7 belongs to the dead."""
    first = tab_runs.moving_maps(8, 2, (4, 4))
    second = 10 + tab_runs.moving_maps(7, 2, (4, 4), seed=1)
    _, writer = tab_runs.write_run(tmp_path / "r", probes=2, size=(8, 8), maps=first, close=False, session=session)
    writer._file.write(b"\x40\x00\x00\x00\x00\x00\x00\x00torn")
    writer.close()
    tab_runs.write_run(
        tmp_path / "r", probes=2, size=(8, 8), maps=second, begin=5, session=session, names={0: "resumed"}
    )
    server = serve(
        tmp_path, loader, ready=lambda server: complete(server, "r", 6 if session else 7) or loader == "fast"
    )
    server.wait_for(lambda server: server.runs()["r"]["info"]["class_names"] == {"0": "resumed"})
    served, _ = server.series("/maps", "r")
    assert list(served) == [START, 0, 1, 2, 3, 4, 5, 6]
    for step in range(7):
        np.testing.assert_array_equal(served[step], (first if step < 5 else second)[step + 1].astype(np.float16))
    np.testing.assert_array_equal(served[START], second[0].astype(np.float16))
    if session or loader == "fast":
        _, guided = unpack(server.get("/guided", run="r", epoch=5).get_data())
        assert guided == tab_runs.guided_pictures(second[6], (8, 8))


@both_loaders
def test_grids_may_change_within_a_run(serve, tmp_path, loader):
    writer = tab_runs.RunWriter(tmp_path / "r")
    writer.add(0, summary.run_summary(tab_runs.run_info(2)))
    shapes = [(2, 7, 7), (2, 14, 10), (1, 3, 3)]
    for epoch, shape in enumerate(shapes):
        writer.add(epoch, summary.maps_summary(np.full(shape, epoch + 1.0, np.float16)))
    writer.close()
    server = serve(tmp_path, loader, ready=lambda server: complete(server, "r", 2))
    served, _ = server.series("/maps", "r")
    assert [array.shape for array in served.values()] == shapes
    server.get("/pictures", status=404, run="r")
    server.get("/numbers", status=404, run="r")


@both_loaders
def test_partners_have_pictures_and_maps_of_their_own(serve, tmp_path, loader):
    """Another grid, another size, and an epoch whose writing ended before the partners' maps."""
    maps, partner_maps = tab_runs.moving_maps(4, 2, (7, 5)), tab_runs.moving_maps(4, 2, (6, 3), seed=1)
    tab_runs.write_run(
        tmp_path / "r", probes=2, size=(24, 32), maps=maps, partner_maps=partner_maps, partner_size=(32, 16), torn=(2,)
    )
    server = serve(tmp_path, loader, ready=lambda server: complete(server, "r", 3))
    server.wait_for(lambda server: server.runs()["r"]["has"]["partner_maps"])
    assert server.runs()["r"]["has"]["partners"]
    served, unreadable = server.series("/partner_maps", "r")
    assert (list(served), unreadable) == ([START, 0, 1, 3], 0)
    for step, array in served.items():
        np.testing.assert_array_equal(array, partner_maps[step + 1].astype(np.float16))
    served, _ = server.series("/maps", "r")
    np.testing.assert_array_equal(served[2], maps[3].astype(np.float16))
    _, pictures = unpack(server.get("/partners", run="r").get_data())
    assert pictures == [tab_runs.png(tab_runs.partner(number, (32, 16))) for number in range(2)]
    _, pictures = unpack(server.get("/pictures", run="r").get_data())
    assert pictures == [tab_runs.png(tab_runs.picture(number, (24, 32))) for number in range(2)]


@both_loaders
def test_a_training_without_pairs_shows_no_partners_of_an_earlier_one(serve, tmp_path, loader):
    maps = tab_runs.moving_maps(2, 2, (7, 5))
    tab_runs.write_run(tmp_path / "r", epochs=2, probes=2, maps=maps, partner_maps=maps)
    tab_runs.write_run(tmp_path / "r", epochs=3, probes=2)
    server = serve(tmp_path, loader, ready=lambda server: complete(server, "r", 2))
    server.wait_for(lambda server: not server.runs()["r"]["info"]["pairs"])
    assert not server.runs()["r"]["has"]["partners"]
    assert not server.runs()["r"]["has"]["partner_maps"]


@both_loaders
def test_what_is_no_map_is_counted(serve, tmp_path, loader):
    writer = tab_runs.RunWriter(tmp_path / "r")
    writer.add(0, summary.maps_summary(np.ones((1, 2, 2), np.float16)))
    foreign = summary.numbers_summary(np.ones((2, 2)))
    foreign.tag = metadata.MAPS
    writer.add(1, foreign)
    broken = summary.run_summary(tab_runs.run_info(1))
    broken.tensor.string_val[0] = b"{not json"
    writer.add(0, broken)
    writer.close()
    server = serve(tmp_path, loader, ready=lambda server: complete(server, "r", 1))
    served, unreadable = server.series("/maps", "r")
    assert (list(served), unreadable) == ([0], 1)
    server.wait_for(lambda server: "cannot be read" in server.runs()["r"]["error"])
    assert server.runs()["r"]["info"] is None


def test_the_revision_changes_with_the_data(serve, tmp_path):
    _, writer = tab_runs.write_run(tmp_path / "r", epochs=2, probes=1, grid=(2, 2), size=(4, 4), close=False)
    before = serve(tmp_path).runs()["r"]["revision"]
    assert serve(tmp_path).runs()["r"]["revision"] == before
    writer.add(2, summary.maps_summary(np.ones((1, 2, 2), np.float16)))
    writer.close()
    assert serve(tmp_path).runs()["r"]["revision"] != before
