"""``--import``: the user's own code, imported before a model with layers that it defines is loaded."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ...errors import in_one_line
from ..errors import CommandError

_WANTED = "--import must be a .py file or the name of a module, such as package.layers."


@dataclass(frozen=True, eq=False)
class Imports:
    """What the modules of ``--import`` define.

    Attributes:
        objects: Classes and functions by the names that Keras gives to unregistered ones.
        digests: Path of every file of the code to its SHA-256.
    """

    objects: dict[str, Any]
    digests: dict[str, str]


def check_files(words: Sequence[str]) -> None:
    """Checks names of files and modules before Keras is imported.

    Raises:
        CommandError: If a word is neither a .py file nor can be the name of a module.
    """
    for word in words:
        path = Path(word)
        if not _is_path(word):
            if not all(part.isidentifier() for part in word.split(".")):
                raise CommandError(f"{_WANTED} Received: {word!r}.{_candidates(word)}")
        elif path.is_dir():
            raise CommandError(f"{_WANTED} Received: {word!r}, a folder. Candidates: {'.'.join(path.parts)}.")
        elif not path.exists():
            raise CommandError(f"--import finds no file {word!r}.{_candidates(word)}")
        elif path.suffix != ".py":
            raise CommandError(f"{_WANTED} Received: {word!r}.{_candidates(word)}")


def import_all(words: Sequence[str]) -> Imports:
    """Imports files and modules, in this order.

    Keras finds registered classes and functions by itself once they are imported. Unregistered ones are passed to it:
    all that the modules define, or import from elsewhere, except Keras' own.

    Args:
        words: As typed: paths of .py files and names of modules.

    Raises:
        CommandError: If there is no such file or module, or it fails.
    """
    modules = [_imported(word) for word in words]
    objects = {name: value for module in modules for name, value in _objects(module).items()}
    digests = {path: digest for module in modules for path, digest in _digests(module).items()}
    return Imports(objects, digests)


# --- importing ------------------------------------------------------------------------------------------------------


def _is_path(word: str) -> bool:
    return word.endswith(".py") or any(mark in word for mark in (os.sep, os.altsep) if mark)


def _imported(word: str) -> ModuleType:
    folders = [os.getcwd()]
    if _is_path(word):
        folders.insert(0, str(Path(word).absolute().parent))
    try:
        with _searched(folders):
            return _from_file(Path(word).absolute()) if _is_path(word) else importlib.import_module(word)
    # A script may end the program, for example because it does not understand our arguments.
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) and not _is_path(word) else None
        if missing and f"{word}.".startswith(f"{missing}."):
            if Path(word).exists():
                raise CommandError(f"{_WANTED} Received: {word!r}.{_candidates(word)}") from error
            raise CommandError(f"--import finds no module {word!r}.{_candidates(word)}") from error
        message = f"{type(error).__name__}: {in_one_line(error)}".rstrip(".: ")
        raise CommandError(f"--import {word!r} fails with {message}. Candidates: {_way_out(error)}") from error


def _from_file(path: Path) -> ModuleType:
    # Under a name that no other module has, even if the file is called keras.py.
    name = re.sub(r"\W", "_", str(path))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # there is a loader for .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Not from Python's cache, which recognizes a changed file by its size and by whole seconds only.
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _searched(folders: Sequence[str]) -> Iterator[None]:
    """Lets modules be found in ``folders``: first now, and last afterwards, when layers may import more.

    The current folder is restored if a module changes it, since relative paths of the command line depend on it.
    """
    here = os.getcwd()
    sys.path[:0] = folders
    try:
        yield
    finally:
        os.chdir(here)
        for folder in folders:
            with contextlib.suppress(ValueError):  # the module may have changed the list
                sys.path.remove(folder)
            if folder not in sys.path:
                sys.path.append(folder)


def _candidates(word: str) -> str:
    folder, name = os.path.split(word)
    try:
        files = sorted(path.stem for path in Path(folder or ".").iterdir() if path.suffix == ".py")
    except OSError:
        files = []
    near = difflib.get_close_matches(os.path.splitext(name)[0], files, 3)
    listed = [os.path.join(folder, f"{stem}.py") for stem in near]
    return f" Candidates: {', '.join(listed or ['a .py file', 'a module that Python finds from here'])}."


def _way_out(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "a file that only defines; if __name__ == '__main__': before what it runs."
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "the name of the module in its package, such as package.layers."
    return "--debug shows where."


# --- what was imported ----------------------------------------------------------------------------------------------


def _objects(module: ModuleType) -> dict[str, Any]:
    """Collects everything in a module that a model can be made of, by its own name, which Keras writes to files."""
    import keras

    package = module.__name__.split(".")[0]
    objects = {}
    for value in vars(module).values():
        home = (getattr(value, "__module__", None) or "").split(".")[0]
        # A class that Keras can build again: a layer, a model, an initializer, ...
        is_class = inspect.isclass(value) and hasattr(value, "from_config") and home not in ("keras", "tensorflow")
        # In HDF5 files an activation is only a name, and a helper called softmax must not replace Keras' own.
        is_function = inspect.isfunction(value) and home == package and not hasattr(keras.activations, value.__name__)
        if is_class or is_function:
            objects[value.__name__] = value
    return objects


def _digests(module: ModuleType) -> dict[str, str]:
    """Returns the SHA-256 of the files of a module, of modules beside it and of its package that are imported."""
    main = vars(module).get("__file__")
    if main is None:  # a namespace package
        return {}
    folder, package = os.path.dirname(main), module.__name__.split(".")[0]
    files = {main}
    for name, loaded in list(sys.modules.items()):
        file = vars(loaded).get("__file__") if isinstance(loaded, ModuleType) else None
        if isinstance(file, str) and (os.path.dirname(file) == folder or name.startswith(f"{package}.")):
            files.add(file)
    return {file: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in sorted(files) if Path(file).is_file()}
