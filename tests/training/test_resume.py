"""A training killed with SIGKILL and resumed with `initial_epoch` shows one clean timeline on both loaders."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from tab_server import Server
from trainings import events

from keras_gradcam.tensorboard_plugin.reader import START

PROGRAM = textwrap.dedent("""
    import sys
    import keras, numpy as np
    from keras_gradcam import GuidedGradCAMCallback

    log_dir, first, epochs, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    keras.utils.set_random_seed(seed)
    x, y = np.random.default_rng(0).random((8, 16, 16, 3)), np.arange(8) % 2
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
                              keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    callback = GuidedGradCAMCallback((x, y), log_dir, max_probes=2)
    model.fit(x, keras.ops.one_hot(y, 2), initial_epoch=first, epochs=epochs, verbose=0, callbacks=[callback])
    np.savez(log_dir + "/" + str(seed), maps=callback.history.maps, epochs=callback.history.epochs)
""")


def train(log_dir, first, epochs, seed):
    arguments = [sys.executable, "-c", PROGRAM, str(log_dir), str(first), str(epochs), str(seed)]
    return subprocess.Popen(arguments, stderr=subprocess.DEVNULL)


def logged_epochs(log_dir):
    return [event.step for event in events(log_dir).get("gradcam_tab/maps", ())] if any(log_dir.glob("*/e*")) else []


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The log folder, the maps of the killed training, and those of the one that went on from epoch 3."""
    log_dir = tmp_path_factory.mktemp("logs")
    killed = train(log_dir, 0, 100_000, seed=1)
    deadline = time.time() + 120
    while time.time() < deadline and killed.poll() is None and len(logged_epochs(log_dir)) < 6:
        time.sleep(0.3)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = events(log_dir)["gradcam_tab/maps"]
    assert len(before) >= 6
    assert train(log_dir, 3, 7, seed=2).wait(timeout=300) == 0
    with np.load(log_dir / "2.npz") as stored:
        assert stored["epochs"].tolist() == [3, 4, 5, 6]
        return log_dir, before, stored["maps"]


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
    from tensorboard.util.tensor_util import make_ndarray

    for event in before[:3]:
        np.testing.assert_array_equal(served[event.step], make_ndarray(event.tensor_proto))


def test_the_start_of_the_training_is_kept(resumed):
    log_dir, _, _ = resumed
    assert len(events(log_dir)["gradcam_start/overview"]) == 1
