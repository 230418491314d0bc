"""What TensorBoard loads: how many epochs it keeps, and that nothing can keep it from starting."""

import os
import subprocess
import sys

import pytest
import tab_runs
from tab_server import both_loaders, complete, fixed_flags

from keras_gradcam.tensorboard_plugin.loader import Loader
from keras_gradcam.tensorboard_plugin.metadata import PLUGIN_NAME


@both_loaders
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


def test_a_plugin_that_cannot_be_made_is_left_out(caplog):
    assert Loader().load(object()) is None
    assert "cannot be shown" in caplog.text


def test_the_entry_point_leads_to_the_loader():
    from importlib.metadata import entry_points

    (found,) = entry_points(group="tensorboard_plugins", name="keras_gradcam")
    assert found.load() is Loader


def test_importing_the_plugin_imports_nothing_heavy():
    package = "keras_gradcam.tensorboard_plugin"
    code = f"import sys, {package}.loader, {package}.server; print(sorted(sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    ).stdout  # fmt: skip
    for heavy in ("'keras'", "'tensorflow'", "'matplotlib'", "'PIL'", "'scipy'", "keras_gradcam.training.callback"):
        assert heavy not in modules
