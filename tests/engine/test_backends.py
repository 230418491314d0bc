"""The engine of the backend in use, and a start of Keras that prints nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import pytest

from keras_gradcam import engine
from keras_gradcam.errors import ArgumentError

BACKEND = keras.config.backend()


def fresh_python(code, **environment):
    variables = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**variables, "KERAS_BACKEND": BACKEND, **environment},
    )


def test_engine_of_the_backend_in_use():
    found = engine.current_engine()
    assert type(found).__module__ == f"keras_gradcam.engine.{BACKEND}.engine"


def test_backend_without_an_engine_is_named(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "abacus")
    with pytest.raises(NotImplementedError, match=r"Keras backend must be.*Received: 'abacus'.*Candidates: .*tensorfl"):
        engine.current_engine()


def test_importing_the_engine_folder_is_light():
    code = (
        "import sys, keras_gradcam.engine\nprint({'tensorflow', 'jax', 'torch', 'keras', 'numpy'} & set(sys.modules))"
    )
    assert fresh_python(code).stdout.strip() == "set()"


def test_a_backend_is_chosen_before_keras_is_imported_whatever_the_environment_says():
    code = (
        f"from keras_gradcam.engine import use_backend\nuse_backend({BACKEND!r})\n"
        f"import keras\nuse_backend({BACKEND!r})\nprint(keras.config.backend())"
    )
    assert fresh_python(code, KERAS_BACKEND="no such backend").stdout.strip() == BACKEND


def test_a_backend_cannot_be_chosen_when_keras_uses_another():
    other = next(name for name in engine.BACKENDS if name != BACKEND)
    with pytest.raises(
        ArgumentError, match=f"`backend` must be chosen before.*uses '{BACKEND}'.*KERAS_BACKEND={other}"
    ):
        engine.use_backend(other)
    with pytest.raises(ArgumentError, match=r"Received: 'theano'\. Candidates: tensorflow, jax, torch"):
        engine.use_backend("theano")


@pytest.mark.parametrize("call", [f"use_backend({BACKEND!r})", "quiet_start()"])
def test_a_backend_that_is_not_installed_is_named_with_what_to_install(call):
    code = (
        f"import sys\nsys.modules[{BACKEND!r}] = None\nfrom keras_gradcam import engine\n"
        f"try:\n    engine.{call}\nexcept ImportError as error:\n    print(error)"
    )
    printed = fresh_python(code).stdout.strip()
    assert printed.startswith(f"The Keras backend '{BACKEND}' is not installed. Candidates: pip install {BACKEND}")


@pytest.mark.skipif(BACKEND == "tensorflow", reason="another backend than TensorFlow is meant")
def test_tensorflow_is_not_imported_for_another_backend():
    code = (
        "import sys\nfrom keras_gradcam import engine\nengine.quiet_start()\nengine.current_engine().versions()\n"
        "print('tensorflow' in sys.modules)"
    )
    assert fresh_python(code).stdout.strip() == "False"


def test_quiet_start_prints_nothing_and_imports_keras():
    code = (
        "import os, sys\nfrom keras_gradcam import engine\n"
        "with engine.quiet_log():\n    engine.quiet_start()\n"
        "    assert 'keras' in sys.modules\n"
        "    engine.quiet_start()\n"
        "print(engine.current_engine().versions()['keras'])\nprint('seen', file=sys.stderr)\n"
    )
    done = fresh_python(code)
    assert (done.returncode, done.stdout.strip()) == (0, keras.__version__)
    assert done.stderr.strip() == "seen"


def failing(folder):
    """A Keras that says something past Python and then cannot be imported."""
    (folder / "keras.py").write_text("import os\nos.write(2, b'a reason\\n')\nraise RuntimeError('no keras')\n")
    return (
        f"import sys\nsys.path.insert(0, {str(folder)!r})\nfrom keras_gradcam import engine\n"
        "try:\n    with engine.quiet_log():\n        engine.quiet_start()\n"
        "except RuntimeError as error:\n    print(error)\n"
    )


def test_what_was_printed_is_shown_if_the_start_fails(tmp_path):
    done = fresh_python(failing(tmp_path))
    assert (done.stdout.strip(), done.stderr.strip()) == ("no keras", "a reason")


def test_a_start_that_is_not_quiet_keeps_nothing_back(tmp_path):
    (tmp_path / "keras.py").write_text("import os\nos.write(2, b'loud\\n')\n")
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nfrom keras_gradcam import engine\nengine.quiet_start()\n"
    )
    assert fresh_python(code).stderr.strip() == "loud"
