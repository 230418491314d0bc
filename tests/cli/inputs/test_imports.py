"""Models with layers of the user's own: --import brings them, and nothing else gets in."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from cli_models import SIZE, contents, manifest, png, run, saved, taken
from keras import layers as L  # noqa: N812
from models import randomised

from keras_gradcam import Explainer
from keras_gradcam.cli import console
from keras_gradcam.cli.errors import CommandError
from keras_gradcam.cli.inputs.models import load

FAST = ("--method", "gradcam", "--format", "npz", "--preprocess", "none")
CODE = """
import keras
from keras import layers as L

print("imported")

@keras.saving.register_keras_serializable("mine")
class Known(keras.layers.Layer):
    def __init__(self, factor=1.0, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, x):
        print("called")
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}

class Unknown(Known):
    pass

class Uneven(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None, **_):
        return keras.ops.reshape(keras.ops.cast(keras.ops.arange(keras.ops.prod(shape)), dtype), shape)

    def get_config(self):
        return {}

def bent(x):
    return keras.ops.where(x > 0, x, x / 3)

@keras.saving.register_keras_serializable("mine")
def bent_and_known(x):
    return bent(x)

def softmax(x):
    raise RuntimeError("a helper with the name of something of Keras'")

@keras.saving.register_keras_serializable("mine")
class Net(keras.Model):
    def __init__(self, classes=3, **options):
        super().__init__(**options)
        self.classes = classes
        self.conv = L.Conv2D(4, 3, padding="same", name="conv")
        self.mean = L.GlobalAveragePooling2D()
        self.dense = L.Dense(classes, activation="softmax")

    def call(self, x):
        return self.dense(self.mean(self.conv(x)))

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}
"""


@pytest.fixture(autouse=True)
def _python_is_left_as_it_was(tmp_path):
    known, path, modules = dict(keras.saving.get_custom_objects()), list(sys.path), set(sys.modules)
    yield
    _forget(known)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def _forget(known):
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(known)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(CODE)
    for number in range(2):
        png(tmp_path / "pictures" / f"p{number}.png", number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def own(folder, capsys):
    """The module as whoever trained the model had it; Keras has forgotten what it registered."""
    known = dict(keras.saving.get_custom_objects())
    spec = importlib.util.spec_from_file_location("as_it_was_trained", folder / "own.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _forget(known)
    capsys.readouterr()
    return module


def network(*own_layers, activation=None, initializer="glorot_uniform"):
    layers = [
        keras.Input((*SIZE, 3)),
        *own_layers,
        L.Conv2D(5, 3, activation=activation, kernel_initializer=initializer, name="last"),
        L.GlobalAveragePooling2D(),
        L.Dense(3, activation="softmax"),
    ]
    return randomised(keras.Sequential(layers))


PARTS = {
    "registered": (
        lambda own: network(own.Known(0.5)),
        "'Known', which Keras does not know (it was registered as 'mine>Known')",
    ),
    "unregistered": (lambda own: network(own.Unknown(2.0)), "'Unknown', which Keras does not know"),
    "both": (lambda own: network(own.Unknown(2.0), own.Known(0.5)), "'Unknown', which Keras does not know"),
    "function": (lambda own: network(activation=own.bent), "'bent', which Keras does not know"),
    "registered function": (
        lambda own: network(activation=own.bent_and_known),
        "'bent_and_known', which Keras does not know (it was registered as 'mine>bent_and_known')",
    ),
    "initializer": (lambda own: network(initializer=own.Uneven()), "'Uneven', which Keras does not know"),
}


@pytest.mark.parametrize("kind", ["keras", "h5"])
@pytest.mark.parametrize("name", PARTS)
def test_what_a_model_is_made_of(folder, own, name, kind):
    make, unknown = PARTS[name]
    model = make(own)
    path = saved(model, folder / f"m.{kind}")
    with pytest.raises(CommandError) as error:
        load(path)
    assert str(error.value) == (
        f"MODEL is made of {unknown}. Candidates: --import FILE.py (or a module), where it is defined."
    )
    given = taken(folder / "pictures" / "p0.png")
    loaded = load(path, ["own.py"])
    np.testing.assert_allclose(loaded.keras_model(given), model(given), rtol=1e-5)
    assert list(loaded.imports) == [str(folder / "own.py")]


def test_a_model_of_own_layers_is_explained(folder, own, capsys):
    model = network(own.Unknown(2.0), own.Known(0.5), activation=own.bent)
    path = saved(model, folder / "m.keras")
    capsys.readouterr()
    assert run("explain", path, "pictures", *FAST) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("keras-gradcam: error: MODEL is made of ")
    assert run("explain", path, "pictures", *FAST, "--import", "own.py") == 0
    captured = capsys.readouterr()
    *rows, summary = captured.out.splitlines()
    assert [row.split()[0] for row in rows] == ["p0.png", "p1.png"]
    assert summary == f"2 explained at layer last. See {os.path.join('gradcam_out', 'manifest.json')}"
    assert set(captured.err.splitlines()) <= {"imported", "called"}
    for number in range(2):
        expected = Explainer(model, methods=["gradcam"])(taken(folder / "pictures" / f"p{number}.png"))
        with np.load(folder / "gradcam_out" / f"p{number}.npz") as written:
            np.testing.assert_allclose(written["gradcam"][0], expected.maps["gradcam"][0], rtol=1e-4, atol=1e-6)


def test_the_words_of_a_model_remain_those_of_keras(folder, own):
    """An HDF5 file names an activation by a word alone, which a helper in the module must not take over."""
    path = saved(network(), folder / "m.h5")
    assert run("layers", path, "--import", "own.py") == 0


def test_a_subclassed_model(folder, own, capsys):
    model = own.Net()
    model(np.zeros((2, *SIZE, 3), np.float32))
    path = saved(randomised(model), folder / "net.keras")
    assert run("explain", path, "pictures", *FAST, "--import", "own.py", "--layer", "conv") == 0
    assert manifest(folder / "gradcam_out")["settings"]["size"] == list(SIZE)
    expected = Explainer(model, methods=["gradcam"], layer="conv")(taken(folder / "pictures" / "p0.png"))
    with np.load(folder / "gradcam_out" / "p0.npz") as written:
        np.testing.assert_allclose(written["gradcam"][0], expected.maps["gradcam"][0], rtol=1e-4, atol=1e-6)
    # It was built with pictures of this size, but takes others.
    assert run("explain", path, "pictures", *FAST, "--import", "own.py", "--size", "20x24", "--out", "larger") == 0
    assert np.load(folder / "larger" / "p0.npz")["gradcam"].shape == (1, 20, 24)
    capsys.readouterr()
    assert run("layers", path, "--import", "own.py") == 0
    assert re.search(r"conv +Conv2D +16 x 12 x 4", capsys.readouterr().out)


# --- where the code is ----------------------------------------------------------------------------------------------


@pytest.fixture
def model(folder, own, capsys):
    path = saved(network(own.Known(0.5)), folder / "m.keras")
    capsys.readouterr()
    return path


@pytest.fixture
def elsewhere(folder):
    """The same code in a package, with a part of it in a module of its own and one that is imported late."""
    (folder / "package" / "inner").mkdir(parents=True)
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "inner" / "__init__.py").write_text("from .layers import Known, bent\n")
    code = CODE.replace("import keras\n", "import keras\nfrom ..constants import NAME\n", 1)
    (folder / "package" / "inner" / "layers.py").write_text(code.replace('("mine")', "(NAME)"))
    (folder / "package" / "constants.py").write_text('NAME = "mine"\n')
    (folder / "other").mkdir()
    late = CODE.replace("import keras\n", "import keras\nfrom names import NAME\n", 1).replace('("mine")', "(NAME)")
    (folder / "other" / "late.py").write_text(late.replace('print("called")', "import more_names"))
    (folder / "other" / "names.py").write_text('NAME = "mine"\n')
    (folder / "other" / "more_names.py").touch()


@pytest.mark.parametrize("word", ["package.inner.layers", "package.inner", "other/late.py", "./own.py", "own"])
def test_files_and_modules(model, elsewhere, folder, capsys, word):
    assert run("layers", model, "--import", word.replace("/", os.sep)) == 0
    assert "Known" in capsys.readouterr().out


def test_a_file_may_be_called_as_a_module_that_is_there(model, folder):
    (folder / "own.py").rename(folder / "json.py")
    assert run("layers", model, "--import", "json.py") == 0
    assert sys.modules["json"] is json


def test_a_module_may_offer_what_another_defines(folder, own):
    """Unregistered, so that Keras has to be given it."""
    path = saved(network(own.Unknown(2.0)), folder / "m.keras")
    (folder / "front.py").write_text("from own import *\n")
    assert run("layers", path, "--import", "front.py") == 0


def test_several(folder, own, capsys):
    path = saved(network(own.Unknown(2.0), activation=own.bent), folder / "m.keras")
    lines = CODE.split("def bent(x)")
    (folder / "one.py").write_text(lines[0])
    (folder / "two.py").write_text("import keras\ndef bent(x)" + lines[1])
    assert run("layers", path, "--import", "one.py") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "is made of 'bent', which Keras does not know, not even after --import one.py. Candidates: --import" in line
    assert run("layers", path, "--import", "one.py", "--import", "two.py") == 0


def test_filters_and_top(model, folder, capsys):
    assert run("filters", model, "--import", "own.py") == 0
    assert run("top", model, "pictures", "--preprocess", "none", "--import", "own.py") == 0
    assert {path.name for path in folder.glob("*.png")} == {"filters.png", "top.png"}


def test_rank(folder, capsys):
    (folder / "reid.py").write_text(
        "import keras\nclass L2Normalize(keras.layers.Layer):\n"
        "    def call(self, x):\n        return keras.ops.normalize(x, axis=-1)\n"
    )
    spec = importlib.util.spec_from_file_location("as_it_was_trained", folder / "reid.py")
    reid = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reid)
    layers = [keras.Input((*SIZE, 3)), L.Conv2D(8, 3), L.GlobalAveragePooling2D(), L.Dense(6), reid.L2Normalize()]
    path = saved(randomised(keras.Sequential(layers)), folder / "reid.keras")
    for number, name in enumerate(["q/0001_c1.png", "g/0001_c2.png", "g/0002_c2.png", "g/0002_c3.png"]):
        png(folder / name, number)
    words = "rank", path, "--query", "q", "--gallery", "g", "--preprocess", "none"
    assert run(*words) == 2
    assert "MODEL is made of 'L2Normalize'" in capsys.readouterr().err
    assert run(*words, "--import", "reid.py") == 0
    assert "mAP" in capsys.readouterr().out
    written = json.loads((folder / "gradcam_rank" / "ranking.json").read_bytes())
    assert list(written["model"]["imports"]) == [str(folder / "reid.py")]
    assert (folder / "gradcam_rank" / "rank_list.png").exists()


# --- what goes wrong ------------------------------------------------------------------------------------------------

FILES = {
    "owm.py": "",
    "syntax.py": "def f(:\n",
    "zero.py": "1 / 0\n",
    "needs.py": "import no_such_module\n",
    "script.py": "import sys\nsys.exit('usage: script FILE')\n",
    "relative.py": "from .own import Known\n",
    "notes.ipynb": "{}",
    "nothing.py": "",
}
WRONG = {
    "gone.py": r"--import finds no file 'gone.py'. Candidates: a .py file, a module that Python finds from here.$",
    "onw.py": r"--import finds no file 'onw.py'. Candidates: own.py, owm.py.$",
    "sub/own.py": "--import finds no file 'sub/own.py'",
    "gone": "--import finds no module 'gone'.",
    "own.inner": "--import finds no module 'own.inner'.",
    "gone.inner": "--import finds no module 'gone.inner'.",
    "notes.ipynb": r"--import must be a .py file or the name of a module, .* Received: 'notes.ipynb'.",
    "./notes.ipynb": "--import must be a .py file or the name of a module, .* Received: './notes.ipynb'.",
    "pictures/": "Received: 'pictures/', a folder. Candidates: pictures.$",
    "": "--import must be a .py file or the name of a module, .* Received: ''.",
    "own-layers": "--import must be a .py file or the name of a module, .* Received: 'own-layers'. Cand",
    "syntax.py": r"--import 'syntax.py' fails with SyntaxError: .*\(syntax.py, line 1\). Candidates: --debug",
    "zero.py": "--import 'zero.py' fails with ZeroDivisionError: division by zero. Candidates: --debug shows where.$",
    "zero": "--import 'zero' fails with ZeroDivisionError: division by zero. Candidates: --debug shows where.$",
    "needs.py": "--import 'needs.py' fails with ModuleNotFoundError: No module named 'no_such_module'. Cand",
    "needs": "--import 'needs' fails with ModuleNotFoundError: No module named 'no_such_module'. Cand",
    "script.py": "--import 'script.py' fails with SystemExit: usage: script FILE. Candidates: .*__name__ == ",
    "relative.py": "fails with ImportError: attempted relative import .* Candidates: the name of the module in its",
    "nothing.py": "'Known', which Keras does not know, not even after --import nothing.py .it was registered as 'mine>",
}


@pytest.mark.parametrize("word", WRONG)
def test_wrong_imports_are_one_line(model, folder, capsys, word):
    for name, text in FILES.items():
        (folder / name).write_text(text)
    path = list(sys.path)
    capsys.readouterr()
    assert run("explain", model, "pictures", "--import", word) == 2
    captured = capsys.readouterr()
    (line,) = (line for line in captured.err.splitlines() if line != "imported")
    assert line.startswith("keras-gradcam: error: ")
    assert re.search(WRONG[word], line), line
    assert captured.out == ""
    assert not (folder / "gradcam_out").exists()
    assert sys.path[: len(path)] == path
    assert not any(str(getattr(module, "__file__", "")).endswith("zero.py") for module in list(sys.modules.values()))


def test_debug_shows_where_an_import_fails(model, folder, capsys):
    (folder / "zero.py").write_text("\n1 / 0\n")
    assert run("explain", model, "pictures", "--import", "zero.py", "--debug") == 2
    assert re.search(r'zero.py", line 2, in <module>', capsys.readouterr().err)


def test_a_layer_that_has_changed_since_is_one_line(model, folder, capsys):
    (folder / "own.py").write_text(CODE.replace("factor=1.0, **options", "strength=1.0, **options"))
    capsys.readouterr()
    assert run("layers", model, "--import", "own.py") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("keras-gradcam: error: MODEL cannot be loaded: ")
    assert "factor" in line


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_pickled_code_is_refused_all_the_same(folder, capsys, kind):
    """Even if the imported code turns Keras' safe mode off for the whole process."""
    model = keras.Sequential([keras.Input((*SIZE, 3)), L.Lambda(lambda x: x * 2), L.Conv2D(2, 3)])
    path = saved(model, folder / f"m.{kind}")
    (folder / "unsafe.py").write_text("import keras\nkeras.config.enable_unsafe_deserialization()\n")
    capsys.readouterr()
    assert run("layers", path, "--import", "unsafe.py") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pickled Python code, which could do anything to this machine, and is not loaded" in line


def test_a_lambda_with_a_function_of_the_users_own_is_no_pickled_code(folder, own):
    path = saved(network(L.Lambda(own.bent)), folder / "m.keras")
    assert run("layers", path, "--import", "own.py") == 0


# --- going on with other code ---------------------------------------------------------------------------------------


def test_other_code_is_not_mixed(model, folder, capsys):
    (folder / "own.py").write_text(CODE.replace("import keras\n", "import keras\nimport beside\n", 1))
    (folder / "beside.py").write_text("A = 1\n")
    words = "explain", model, "pictures", *FAST, "--import", "own.py"
    assert run(*words) == 0
    before = contents(folder / "gradcam_out")
    imports = manifest(folder / "gradcam_out")["model"]["imports"]
    assert [os.path.basename(path) for path in imports] == ["beside.py", "own.py"]

    def refused(said):
        assert run(*words) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert f"holds results that were made otherwise (import: {said}). Candidates: " in line
        assert contents(folder / "gradcam_out") == before

    for name in ("own.py", "beside.py"):
        text = (folder / name).read_text()
        (folder / name).write_text(f"{text}\n# changed\n")
        refused(f"{name} of another content")
        (folder / name).write_text(text)
    # As long as nothing has changed it goes on, wherever the code lies.
    capsys.readouterr()
    assert run(*words) == 0
    assert "2 explained before" in capsys.readouterr().out
    (folder / "moved").mkdir()
    for name in ("own.py", "beside.py"):
        (folder / name).rename(folder / "moved" / name)
    del sys.modules["beside"]
    words = (*words[:-1], os.path.join("moved", "own.py"))
    assert run(*words) == 0
    assert "2 explained before" in capsys.readouterr().out
    (folder / "more.py").touch()
    words = *words, "--import", "more.py"
    refused("beside.py,own.py, not beside.py,more.py,own.py")
    assert run(*words, "--overwrite") == 0
    assert "2 explained at" in capsys.readouterr().out


def test_without_imports_a_manifest_has_none(folder, capsys):
    path = saved(network(), folder / "m.keras")
    assert run("explain", path, "pictures", *FAST) == 0
    written = manifest(folder / "gradcam_out")
    assert set(written["model"]) == {"source", "sha256"}
    capsys.readouterr()
    assert run("explain", path, "pictures", *FAST) == 0
    assert "2 explained before" in capsys.readouterr().out
    assert run("explain", path, "pictures", *FAST, "--import", "own.py") == 2
    assert "(import: None, not own.py)" in capsys.readouterr().err


def test_new_code_is_run_whatever_python_has_cached(model, folder, capsys, monkeypatch):
    """Of the same size, within the same second."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for said in ("imported", "IMPORTED"):
        (folder / "own.py").write_text(CODE.replace("imported", said))
        os.utime(folder / "own.py", (1e9, 1e9))
        assert run("layers", model, "--import", "own.py") == 0
        assert said in capsys.readouterr().err


# --- what is printed ------------------------------------------------------------------------------------------------


def test_what_paths_are_relative_to_is_no_affair_of_the_code(model, folder, tmp_path_factory, capsys):
    (folder / "going.py").write_text(
        f"from own import *\nimport os\nos.chdir({str(tmp_path_factory.mktemp('away'))!r})\n"
    )
    assert run("explain", "m.keras", "pictures", "--import", "going.py", *FAST, "--out", "out") == 0
    assert manifest(folder / "out")["pictures"]


def test_what_a_module_prints_is_no_result(model, folder, capsys):
    assert run("layers", model, "--import", "own.py") == 0
    captured = capsys.readouterr()
    assert captured.out.split()[:2] == ["path", "class"]
    assert captured.err.splitlines()[0] == "imported"
    assert set(captured.err.splitlines()) == {"imported", "called"}
    assert console._results is None


def test_as_a_user_starts_it(model, folder):
    """From the folder where the code is, with nothing set; the installed program does not have it on its path.

    TensorFlow's own lines do not appear, and the reader of the output may stop after one line.
    """
    code = "import sys; sys.path.remove(''); from keras_gradcam.cli import main; sys.exit(main())"
    env = {name: value for name, value in os.environ.items() if name not in ("TF_CPP_MIN_LOG_LEVEL", "PYTHONSAFEPATH")}
    env["PYTHONPATH"] = os.path.dirname(os.path.dirname(os.path.dirname(console.__file__)))
    done = subprocess.run(
        f"{sys.executable} -c {shlex.quote(code)} layers {model} --import own | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=120,
        env=env,
    )
    assert done.stdout.split() == ["path", "class", "output", "shape", "call"]
    assert set(done.stderr.splitlines()) == {"imported", "called"}


def test_a_file_that_is_no_model_is_said_by_keras(folder, own, capsys):
    with zipfile.ZipFile(folder / "m.keras", "w") as file:
        file.writestr("config.json", "{")
    assert run("layers", "m.keras", "--import", "own.py") == 2
    assert "MODEL cannot be loaded" in capsys.readouterr().err
