"""The package as a whole: light to import, its public names documented and known to type checkers."""

from __future__ import annotations

import ast
import configparser
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from backends import OTHER_BACKENDS

import keras_gradcam

ROOT = Path(keras_gradcam.__file__).parent
HEAVY = ("tensorflow", "keras", "matplotlib", "PIL", "scipy", "tensorboard", "torch", "jax")


def fresh_python(code: str) -> str:
    """Runs ``code`` in a new interpreter and returns what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -------------------------------------------------------------------------------------------------------------- imports


@pytest.mark.parametrize("then", ["", "dir(keras_gradcam)", "keras_gradcam.__version__", "keras_gradcam.__all__"])
def test_importing_the_package_loads_nothing_heavy(then):
    code = f"import sys, keras_gradcam\n{then}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    assert fresh_python(code) == "[]"


@pytest.mark.parametrize("name", ["gradcam", "Class", "GradCAMResult", "LayerCall"])
def test_names_that_need_no_model_load_no_framework(name):
    code = f"import sys, keras_gradcam\nkeras_gradcam.{name}\nprint({{'tensorflow', 'keras'}} & set(sys.modules))"
    assert fresh_python(code) == "set()"


def test_gradcam_on_arrays_runs_without_a_framework():
    code = (
        "import sys, numpy as np\nfrom keras_gradcam import gradcam\n"
        "result = gradcam(np.full((2, 2, 3), 2.0), np.full((2, 2, 3), 0.5), np.ones((4, 4, 1)))\n"
        "print(result.guided_gradcam.max(), 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    assert fresh_python(code) == "3.0 False False"


# --------------------------------------------------------------------------------------------------------- public names


def test_public_names_are_sorted_and_each_is_there():
    assert keras_gradcam.__all__ == sorted(keras_gradcam.__all__)
    assert len(set(keras_gradcam.__all__)) == len(keras_gradcam.__all__)
    assert set(keras_gradcam.__all__) == set(keras_gradcam._MODULES)
    assert set(keras_gradcam.__all__) <= set(dir(keras_gradcam))


@pytest.mark.parametrize("name", keras_gradcam.__all__)
def test_public_name_is_defined_in_the_module_it_is_said_to_be_in(name):
    found = getattr(keras_gradcam, name)
    assert found.__name__ == name
    assert found.__module__ == f"keras_gradcam.{keras_gradcam._MODULES[name]}"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'keras_gradcam' has no attribute 'explian'"):
        _ = keras_gradcam.explian


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module != "version"
        for alias in node.names
    }
    assert seen == keras_gradcam._MODULES


def _parameters(public) -> list[str]:
    """The arguments a user of this name passes."""
    if inspect.isclass(public) and "__init__" not in vars(public):
        return []  # an exception, a base class
    return [name for name in inspect.signature(public).parameters if name != "self"]


@pytest.mark.parametrize("name", keras_gradcam.__all__)
def test_public_name_is_documented(name):
    public = getattr(keras_gradcam, name)
    text = inspect.getdoc(public)
    assert text, f"{name} has no docstring"
    assert text.splitlines()[0].endswith((".", ",")), f"{name}: the first line is not a sentence"
    assert not text.startswith(f"{name}("), f"{name}: the docstring is the one Python made"
    documented = "Attributes:" in text or issubclass(public, tuple) if inspect.isclass(public) else False
    if not documented:
        assert "Example:" in text, f"{name}: no example"
        if parameters := _parameters(public):
            assert "Args:" in text, f"{name}: arguments are not documented"
            arguments = text.split("Args:")[1].split("\n\n")[0]
            missing = [parameter for parameter in parameters if f"{parameter}:" not in arguments]
            assert not missing, f"{name}: {missing} not documented"


@pytest.mark.parametrize("name", keras_gradcam.__all__)
def test_public_methods_are_documented(name):
    public = getattr(keras_gradcam, name)
    if not inspect.isclass(public):
        return
    for method, function in vars(public).items():
        if inspect.isfunction(function) and not method.startswith("_"):
            assert inspect.getdoc(getattr(public, method)), f"{name}.{method} has no docstring"


def test_what_is_needed_without_tensorflow_is_kept_in_step():
    setup = configparser.ConfigParser()
    setup.read(ROOT.parent / "setup.cfg")
    needed = setup["options"]["install_requires"].split()
    assert [one for one in needed if one.startswith("tensorflow")] == ["tensorflow>=2.16.1"]
    lines = (ROOT.parent / "requirements-without-tensorflow.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        one for one in needed if not one.startswith("tensorflow>")
    ]


def test_all_modules_can_be_imported():
    for path in ROOT.rglob("*.py"):
        if path.relative_to(ROOT).parts[:2] in [("engine", name) for name in OTHER_BACKENDS]:
            continue  # its package need not be installed
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
