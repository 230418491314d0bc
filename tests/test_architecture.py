"""The layout of the package: who may import whom, how long things are, that every function says what it does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent / "keras_gradcam"
MODULES = sorted(ROOT.rglob("*.py"))

#: A room imports rooms of the lines above and itself, never upward, never sideways.
LEVELS = (
    ("errors", "extras", "files", "grids", "version", "tensorboard_plugin"),
    ("engine", "drawing"),
    ("attribution", "pictures"),
    ("metrics", "filters", "reid"),
    ("training", "datasets"),
    ("cli", "__init__"),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
BACKENDS = {"tensorflow", "jax", "torch"}

MOST_LINES_OF_A_MODULE = 400
MOST_LINES_OF_A_FUNCTION = 60
MOST_PARAMETERS = 10
MOST_PARAMETERS_OF_THE_CALLBACK = 15

# With what the docstring of a function begins: what the function does, in the third person.
VERBS = frozenset(
    """
    Adds Advances Answers Applies Asks Assigns Averages Begins Blends Bounds Brings Builds Calls Carries Checks
    Chooses Closes Collects Colors Combines Compares Compiles Completes Computes Concatenates Converts Copies
    Counts Crops Cuts Decides Decodes Deletes Describes Differentiates Divides Draws Embeds Encodes Ends Erases
    Escapes Estimates Evaluates Explains Exports Extends Fills Filters Finds Fits Fixes Flattens Flushes Follows Formats
    Forwards Frames Gathers Gives Groups Guards Guesses Handles Hides Holds Imports Integrates Intercepts
    Interpolates Iterates Joins Keeps Labels Lays Leaves Lets Lists Loads Localizes Locks Logs Looks Makes Maps
    Marks Masks Matches Measures Merges Moves Multiplies Names Normalizes Notes Notices Opens Orders Pads Paints
    Pairs Parses Pickles Places Plots Prepares Prints Propagates Pulls Puts Raises Randomizes Ranks Reaches
    Reads Recognizes Records Redraws Reduces Refuses Registers Releases Removes Renames Renders Replaces Reports
    Represents Resets Reshapes Resizes Resolves Restores Returns Rounds Runs Samples Saves Says Scales Scores
    Searches Selects Sends Separates Serves Sets Shortens Shows Shuffles Silences Slices Smooths Sorts Splits
    Stacks Starts States Stops Stores Streams Subtracts Summarizes Sums Switches Takes Tells Tests Titles Traces
    Tracks Transforms Translates Tries Turns Undoes Unpacks Updates Upsamples Uses Validates Visits Waits Walks Warns
    Weighs Wraps Writes Yields
    """.split()  # noqa: SIM905
)


def name_of(path: Path) -> str:
    """The module's dotted name within the package; a package's is that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def imports(path: Path) -> set[str]:
    """Everything a module imports, anywhere in it and for type checkers too: dotted names from the root on."""
    package = ["keras_gradcam", *path.relative_to(ROOT).parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            # `from . import x` and `from .package import module` name modules too.
            found |= {f"{base}.{alias.name}" if is_module(f"{base}.{alias.name}") else base for alias in node.names}
    return found


def is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def own_imports(path: Path) -> set[str]:
    """The modules of this package that a module imports, named within the package; "" is the package itself."""
    names = {name for name in imports(path) if name.split(".")[0] == "keras_gradcam"}
    return {name.removeprefix("keras_gradcam").lstrip(".") for name in names}


def room_of(name: str) -> str:
    return name.split(".")[0] or "__init__"


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{prefix}{child.name}", child
                yield from walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.")
            else:
                yield from walk(child, prefix)

    return walk(ast.parse(path.read_text()), "")


# ----------------------------------------------------------------------------------------------------------- directions


def test_every_room_has_its_level():
    rooms = {path.stem if path.is_file() else path.name for path in ROOT.iterdir() if path.suffix in ("", ".py")}
    assert rooms - {"__pycache__", "py"} == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_no_import_upward_or_sideways(path):
    room = room_of(name_of(path))
    wrong = {name for name in own_imports(path) if room_of(name) != room and LEVEL[room_of(name)] >= LEVEL[room]}
    assert not wrong, f"{path} is of the room {room} and must not import {sorted(wrong)}"


def test_no_circle():
    graph = {name_of(path): own_imports(path) - {name_of(path)} for path in MODULES}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way[way.index(name) :], name))}"
        if name not in done:
            for imported in sorted(graph.get(name, ())):
                visit(imported, (*way, name))
            done.add(name)

    for name in graph:
        if name:  # the package itself names its modules, which are imported on first use
            visit(name, ())


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_only_an_engine_knows_its_backend(path):
    folder = path.relative_to(ROOT).parts[:2]
    allowed = {folder[1]} if folder[0] == "engine" and len(folder) == 2 else set()
    found = {name.split(".")[0] for name in imports(path)} & BACKENDS
    assert found <= allowed, f"{path} imports {sorted(found - allowed)}"


def test_the_tab_imports_nothing_else_of_the_package_and_nothing_heavy():
    for path in (ROOT / "tensorboard_plugin").glob("*.py"):
        assert {room_of(name) for name in own_imports(path)} <= {"tensorboard_plugin"}, path
        assert not {name.split(".")[0] for name in imports(path)} & {*BACKENDS, "keras", "matplotlib", "PIL", "scipy"}


def test_the_callback_is_imported_by_the_package_alone():
    assert [name_of(path) for path in MODULES if "training.callback" in own_imports(path)] == [""]


def test_no_private_name_is_imported_from_another_module():
    wrong = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                names = [alias.name for alias in node.names if alias.name.startswith("_") and alias.name[1] != "_"]
                wrong += [f"{path.relative_to(ROOT)}: {name}" for name in names]
    assert not wrong


# --------------------------------------------------------------------------------------------------------- every module


def test_every_module_says_what_it_is():
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_every_module_has_its_test(path):
    if path.stem in ("__init__", "__main__", "version"):
        return
    expected = TESTS / path.relative_to(ROOT).parent / f"test_{path.stem}.py"
    assert expected.exists(), f"{expected.relative_to(TESTS.parent)} is missing"
    assert "def test_" in expected.read_text(), f"{expected} tests nothing"


def test_every_test_file_has_its_module():
    """A module that was renamed or deleted leaves no test file behind."""
    beside = {
        "test_architecture.py",
        "test_package.py",
        "tensorboard_plugin/test_browser.py",
        "robustness/test_robustness.py",
    }
    for path in TESTS.rglob("test_*.py"):
        name = path.relative_to(TESTS)
        module = ROOT / name.parent / name.name.removeprefix("test_")
        folder = ROOT / name.parent / path.stem.removeprefix("test_")
        assert module.exists() or folder.is_dir() or str(name) in beside, f"{name} tests no module"


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_modules_are_short(path):
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES_OF_A_MODULE


# ------------------------------------------------------------------------------------------------------- every function


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_functions_are_short(path):
    """Docstrings aside: an example and a formula make no function harder to read."""
    long = {}
    for name, function in functions(path):
        docstring = function.body[0] if ast.get_docstring(function) else None
        described = 0 if docstring is None else docstring.end_lineno - docstring.lineno + 1
        lines = function.end_lineno - function.lineno + 1 - described
        if lines > MOST_LINES_OF_A_FUNCTION:
            long[name] = lines
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_functions_have_few_parameters(path):
    many = {}
    for name, function in functions(path):
        arguments = function.args
        count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
        count -= bool(arguments.args) and arguments.args[0].arg in ("self", "cls")
        most = MOST_PARAMETERS_OF_THE_CALLBACK if name == "GuidedGradCAMCallback.__init__" else MOST_PARAMETERS
        if count > most:
            many[name] = count
    # The constructor of a dataclass takes its fields.
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(one) for one in node.decorator_list):
            fields = sum(isinstance(child, ast.AnnAssign) for child in node.body)
            if fields > MOST_PARAMETERS:
                many[node.name] = fields
    assert not many


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_docstrings_of_functions_begin_with_a_verb(path):
    wrong = {}
    for name, function in functions(path):
        text = ast.get_docstring(function)
        decorators = {ast.unparse(decorator) for decorator in function.decorator_list}
        # A property is a thing, and so is its docstring.
        if text and not decorators & {"property", "functools.cached_property", "cached_property"}:
            first = text.split()[0].rstrip(",.:;")
            if first not in VERBS:
                wrong[name] = " ".join(text.split()[:6])
    assert not wrong
