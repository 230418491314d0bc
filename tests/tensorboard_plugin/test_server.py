"""Every route over the real WSGI application and real event files, with both of TensorBoard's loaders."""

import gzip
import json

import numpy as np
import pytest
import tab_runs
from tab_server import PREFIX, Server, both_loaders, complete

from keras_gradcam.tensorboard_plugin import server as app
from keras_gradcam.tensorboard_plugin.columns import COLUMNS
from keras_gradcam.tensorboard_plugin.reader import START
from keras_gradcam.tensorboard_plugin.wire import unpack


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("logs")
    maps = tab_runs.write_run(logdir / "a" / "gradcam", epochs=5, probes=3, grid=(7, 5), size=(24, 32), regions=True)
    return logdir, maps


@both_loaders
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


@both_loaders
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


@both_loaders
def test_an_empty_log_directory(serve, tmp_path, loader):
    server = serve(tmp_path, loader)
    assert server.runs() == {}
    assert server.plugin.is_active() is False
    server.get("/maps", status=404, run="a")
