"""Every route over the real WSGI application and real event files, with both of TensorBoard's loaders."""

import gzip
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tab_runs
from tab_server import PREFIX, Server, fixed_flags

from keras_gradcam.tensorboard_plugin import metadata, summary
from keras_gradcam.tensorboard_plugin import server as app
from keras_gradcam.tensorboard_plugin.loader import Loader
from keras_gradcam.tensorboard_plugin.metadata import COLUMNS, PLUGIN_NAME
from keras_gradcam.tensorboard_plugin.reader import START
from keras_gradcam.tensorboard_plugin.wire import unpack


@pytest.fixture
def serve():
    servers = []

    def start(logdir, loader="slow", samples="", ready=None):
        server = Server(logdir, loader, samples)
        servers.append(server)
        if ready is not None:
            server.wait_for(ready)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("logs")
    maps = tab_runs.write_run(logdir / "a" / "gradcam", epochs=5, probes=3, grid=(7, 5), size=(24, 32), regions=True)
    return logdir, maps


def complete(server, run="a/gradcam", last=4):
    found = server.runs().get(run)
    return found is not None and found["last_epoch"] == last


both = pytest.mark.parametrize("loader", ["fast", "slow"])


@both
def test_all_that_was_written_is_served(serve, logs, loader):
    logdir, maps = logs
    server = serve(logdir, loader, ready=complete)
    (run,) = server.runs().values()
    assert run["name"] == "a/gradcam"
    assert run["last_epoch"] == 4
    assert run["has"] == {
        "maps": True, "partner_maps": False, "guided": True, "start_guided": True, "pictures": True, "partners": False,
    }  # fmt: skip
    assert run["error"] is None
    assert run["info"]["input_size"] == [24, 32]
    assert run["info"]["probes"][0] == {"label": 0, "region": [24.0, 24.0, 72.0, 80.0]}

    served, unreadable = server.series("/maps", "a/gradcam")
    assert unreadable == 0
    assert list(served) == [START, 0, 1, 2, 3, 4]
    for step, array in served.items():
        np.testing.assert_array_equal(array, maps[step + 1].astype(np.float16))

    numbers, _ = server.series("/numbers", "a/gradcam")
    assert list(numbers) == list(served)
    assert numbers[3].shape == (3, len(COLUMNS))
    np.testing.assert_allclose(numbers[3][:, COLUMNS.index("mass")], maps[4].sum((1, 2)), rtol=1e-5)
    assert np.isnan(numbers[0][:, COLUMNS.index("similarity_previous")]).all()

    _, pictures = unpack(server.get("/pictures", run="a/gradcam").get_data())
    assert pictures == [tab_runs.png(tab_runs.picture(number, (24, 32))) for number in range(3)]
    for epoch in (START, 0, 4):
        _, guided = unpack(server.get("/guided", run="a/gradcam", epoch=epoch).get_data())
        assert guided == tab_runs.guided_pictures(maps[epoch + 1], (24, 32))


@both
@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/maps", {}, 400),
        ("/numbers", {}, 400),
        ("/pictures", {}, 400),
        ("/partners", {}, 400),
        ("/partner_maps", {}, 400),
        ("/partners", {"run": "a/gradcam"}, 404),
        ("/partner_maps", {"run": "a/gradcam"}, 404),
        ("/partner_maps", {"run": "../../etc/passwd"}, 404),
        ("/guided", {"epoch": 1}, 400),
        ("/guided", {"run": "a/gradcam"}, 400),
        ("/guided", {"run": "a/gradcam", "epoch": "x"}, 400),
        ("/guided", {"run": "a/gradcam", "epoch": "-2"}, 400),
        ("/guided", {"run": "a/gradcam", "epoch": "1.5"}, 400),
        ("/guided", {"run": "a/gradcam", "epoch": " 1"}, 400),
        ("/guided", {"run": "a/gradcam", "epoch": "٣"}, 400),
        ("/guided", {"run": "a/gradcam", "epoch": "9" * 40}, 400),
        ("/guided", {"run": "a/gradcam", "epoch": "77"}, 404),
        ("/guided", {"run": "nobody", "epoch": "1"}, 404),
        ("/maps", {"run": "nobody"}, 404),
        ("/maps", {"run": ""}, 404),
        ("/maps", {"run": "../../etc/passwd"}, 404),
        ("/maps", {"run": "a/../a/gradcam"}, 404),
        ("/numbers", {"run": "x" * 10000}, 404),
        ("/pictures", {"run": "\x00"}, 404),
        ("/pictures", {"run": "<img src=x onerror=alert(1)>"}, 404),
        ("/nothing", {}, 404),
    ],
)  # fmt: skip
def test_bad_requests_are_answered_cleanly(shared, loader, path, query, status):
    response = shared(loader).get(path, status=status, **query)
    assert "html" not in response.content_type
    assert b"Traceback" not in response.get_data()


@pytest.fixture(scope="module")
def shared(logs):
    servers = {}

    def server(loader):
        if loader not in servers:
            servers[loader] = Server(logs[0], loader)
            servers[loader].wait_for(complete)
        return servers[loader]

    yield server
    for one in servers.values():
        one.close()


@pytest.mark.parametrize("path", ["/runs", "/maps?run=a/gradcam", "/index.js"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_reading_is_allowed(shared, path, method):
    response = shared("slow").client.open(PREFIX + path, method=method)
    assert response.status_code == 400
    assert b"Expected GET" in response.get_data()


@pytest.mark.parametrize("name", list(app.STATIC_FILES))
def test_static_files_are_served_as_what_they_are(shared, name):
    response = shared("slow").get(f"/{name}")
    expected = "text/css" if name.endswith(".css") else "text/javascript"
    assert response.content_type.startswith(expected)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.get_data() == (app._STATIC / name).read_bytes()


def test_the_table_lists_every_static_file():
    assert set(app.STATIC_FILES) == {path.name for path in app._STATIC.iterdir()}


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py",
        "/..%2fapp.py",
        "/%2e%2e/app.py",
        "/static/../app.py",
        "/static/index.js",
        "/index.js/../../app.py",
        "/index.js%00.css",
        "//etc/passwd",
        "/....//app.py",
        "/..\\app.py",
        "/INDEX.JS",
        "/index.html",
        "/app.py",
        "/__init__.py",
        "/file:///etc/passwd",
    ],
)
def test_nothing_else_is_ever_served(shared, path):
    response = shared("slow").client.get(PREFIX + path)
    assert response.status_code in (301, 308, 404)
    assert b"def " not in response.get_data()
    assert b"root:" not in response.get_data()


@pytest.mark.parametrize("path", ["/runs", "/maps?run=a/gradcam", "/pictures?run=a/gradcam", "/maps.js"])
def test_unchanged_content_is_not_sent_twice(shared, path):
    client = shared("slow").client
    first = client.get(PREFIX + path)
    again = client.get(PREFIX + path, headers={"If-None-Match": first.headers["ETag"]})
    other = client.get(PREFIX + path, headers={"If-None-Match": '"other"'})
    assert (again.status_code, again.get_data()) == (304, b"")
    assert again.content_type == first.content_type  # or TensorBoard complains in the terminal
    assert other.get_data() == first.get_data()
    assert first.headers["Cache-Control"] == "no-cache, must-revalidate"


def test_text_is_compressed_for_those_who_ask(shared):
    response = shared("slow").get("/runs", headers={"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(response.get_data())) == shared("slow").get("/runs").get_json()


@both
def test_an_empty_log_directory(serve, tmp_path, loader):
    server = serve(tmp_path, loader)
    assert server.runs() == {}
    assert server.plugin.is_active() is False
    server.get("/maps", status=404, run="a")


@both
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


@both
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


@both
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


@both
def test_a_training_without_pairs_shows_no_partners_of_an_earlier_one(serve, tmp_path, loader):
    maps = tab_runs.moving_maps(2, 2, (7, 5))
    tab_runs.write_run(tmp_path / "r", epochs=2, probes=2, maps=maps, partner_maps=maps)
    time.sleep(1.1)  # what was written later counts
    tab_runs.write_run(tmp_path / "r", epochs=3, probes=2)
    server = serve(tmp_path, loader, ready=lambda server: complete(server, "r", 2))
    server.wait_for(lambda server: not server.runs()["r"]["info"]["pairs"])
    assert not server.runs()["r"]["has"]["partners"]
    assert not server.runs()["r"]["has"]["partner_maps"]


@both
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


@both
@pytest.mark.parametrize(("samples", "kept"), [("", 60), ("gradcam=10", 10), ("images=3,gradcam=0", 60)])
def test_every_epoch_is_offered_and_the_users_choice_wins(serve, tmp_path, loader, samples, kept):
    tab_runs.write_run(tmp_path / "r", epochs=60, probes=1, grid=(2, 2), size=(4, 4), guided=False, start=False)
    server = serve(tmp_path, loader, samples, ready=lambda server: complete(server, "r", 59))
    served, _ = server.series("/maps", "r")
    assert len(served) == kept
    assert max(served) == 59


def test_sampling_of_others_is_not_touched():
    assert fixed_flags() == {PLUGIN_NAME: 1000}
    assert fixed_flags("images=7,scalars=0") == {PLUGIN_NAME: 1000, "images": 7, "scalars": 0}
    assert fixed_flags("gradcam=5") == {PLUGIN_NAME: 5}


def test_the_revision_changes_with_the_data(serve, tmp_path):
    _, writer = tab_runs.write_run(tmp_path / "r", epochs=2, probes=1, grid=(2, 2), size=(4, 4), close=False)
    before = serve(tmp_path).runs()["r"]["revision"]
    assert serve(tmp_path).runs()["r"]["revision"] == before
    writer.add(2, summary.maps_summary(np.ones((1, 2, 2), np.float16)))
    writer.close()
    assert serve(tmp_path).runs()["r"]["revision"] != before


def test_a_plugin_that_cannot_be_made_is_left_out(caplog):
    assert Loader().load(object()) is None
    assert "cannot be shown" in caplog.text


def test_the_entry_point_leads_to_the_loader():
    from importlib.metadata import entry_points

    (found,) = entry_points(group="tensorboard_plugins", name="keras_gradcam")
    assert found.load() is Loader


def test_importing_the_plugin_imports_nothing_heavy():
    code = "import sys, keras_gradcam.tensorboard_plugin.loader, keras_gradcam.tensorboard_plugin.server; print(sorted(sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    ).stdout  # fmt: skip
    for heavy in ("'keras'", "'tensorflow'", "'matplotlib'", "'PIL'", "'scipy'", "keras_gradcam.training.callback"):
        assert heavy not in modules
