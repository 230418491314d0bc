"""Pictures, models, names, manifests and links that somebody made to break the command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from cli_models import FAST, network, picture, png, saved
from PIL import Image
from robustness.outcomes import Outcomes

from keras_gradcam.cli import main
from keras_gradcam.cli.explain.journal import JOURNAL, MANIFEST

#: Seconds after which a command counts as hanging.
PATIENCE = 60

_ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@contextmanager
def _patience() -> Iterator[None]:
    def give_up(*_: Any) -> None:
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _attempt(words: list[Any], capture: Callable[[], tuple[str, str]]) -> tuple[int | None, str]:
    """Runs a command; returns its exit code and what it printed, or None and what went wrong."""
    capture()
    try:
        with _patience():
            code = main([str(word) for word in words])
    except BaseException as error:
        capture()
        return None, f"{type(error).__name__}: {error}"
    out, err = capture()
    if "\x1b" in out + err:
        return None, "an escape sequence reached the terminal"
    if "Traceback" in err or "Candidates: --debug" in err:
        return None, err[-300:]
    return code, out + err


# --- pictures -------------------------------------------------------------------------------------------------------


def _encoded(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(size=(60, 80))).save(buffer, kind, **options)
    return buffer.getvalue()


def _png_of_size(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def hostile_pictures(rng: np.random.Generator, mutations: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of each picture."""
    kinds = {kind: _encoded(kind) for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm", "tga")}
    yield "empty.png", b""
    yield "text.jpg", b"no picture"
    yield "page.jpg", b"<html><script>alert(1)</script></html>"
    yield "drawing.svg.png", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "program.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touched) (w) file closefile showpage\n"
    yield "document.png", b"%PDF-1.4\n1 0 obj<</OpenAction<</S/Launch>>>>endobj"
    yield "icon.png", b"\0\0\x01\0\x01\0\0\0" + bytes(100)
    yield "bitmap.png", b"#define x_width 9\n#define x_height 9\nstatic char x_bits[] = {0};"
    yield "bomb.png", _png_of_size(60_000, 60_000)
    yield "wide.png", _png_of_size(2**31 - 1, 1)
    yield "nothing.png", _png_of_size(0, 0)
    yield "just-small-enough.png", _png_of_size(9000, 9000)
    yield "loop.tiff", b"II*\0\x08\0\0\0\0\0\x08\0\0\0"
    yield "many-entries.tiff", b"II*\0\x08\0\0\0\xff\xff" + bytes(1000)
    yield "text-chunk.png", kinds["png"][:33] + struct.pack(">I", 2**31 - 1) + b"zTXt" + kinds["png"][33:]
    yield f"name {_ESCAPE.replace('/', '')}.png", kinds["png"]
    yield "-rf.png", kinds["png"]
    yield "x" * 200 + ".png", kinds["png"]
    yield "\udcff\udcfe.png", kinds["png"]
    for kind, content in kinds.items():
        yield f"cut.{kind}", content[: len(content) // 2]
        yield f"head.{kind}", content[:24]
        yield f"disguised-{kind}.png", content
    for number in range(mutations):
        kind = sorted(kinds)[number % len(kinds)]
        content = bytearray(kinds[kind])
        for place in rng.integers(0, min(len(content), 400), int(rng.integers(1, 12))):
            content[place] = rng.integers(256)
        yield f"mutation-{number:03d}.{kind}", bytes(content)


def attempt_pictures(folder: Path, capture: Callable[[], tuple[str, str]], mutations: int = 100) -> Outcomes:
    """Explains all of them in one run."""
    outcomes = Outcomes("hostile pictures")
    pictures = folder / "pictures"
    pictures.mkdir()
    names = []
    for name, content in hostile_pictures(np.random.default_rng(0), mutations):
        (pictures / name).write_bytes(content)
        names.append(name)
    with open(pictures / "sparse.png", "wb") as file:
        file.write(_encoded("png"))
        file.truncate(3 << 30)
    os.mkfifo(pictures / "pipe.jpg")
    (pictures / "endless.png").symlink_to("/dev/zero")
    (pictures / "dangling.png").symlink_to("nowhere")
    names += ["sparse.png", "pipe.jpg", "endless.png", "dangling.png"]
    words = ["explain", saved(network(), folder / "model.keras"), pictures, "--out", folder / "out", *FAST]
    code, said = _attempt(words, capture)
    if code != 1:
        outcomes.lost(f"exit code {code}: {said[:300]}")
        return outcomes
    manifest = json.loads((folder / "out" / MANIFEST).read_text())
    explained = {entry["path"] for entry in manifest["pictures"]}
    failed = {entry["path"]: entry["failure"] for entry in manifest["failures"]}
    for name in names:
        path = str(pictures / name).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
        if path in explained:
            outcomes.survived("explained")
        elif path in failed and "\n" not in failed[path]:
            outcomes.survived("left out, with the reason")
        else:
            outcomes.lost(f"{name!r} is missing")
    return outcomes


# --- models ---------------------------------------------------------------------------------------------------------


def _archive(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name.replace("_json", ".json").replace("_h5", ".h5"), content)
    return path


def _config(layer: dict[str, Any]) -> bytes:
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}
    return json.dumps(config).encode()


def hostile_models(folder: Path) -> Iterator[Path]:
    """Paths of models; one that is loaded in full would make the file "touched"."""
    touched = str(folder / "touched")
    good = Path(saved(network(), folder / "good.keras"))
    members = {}
    with zipfile.ZipFile(good) as file:
        members = {name.replace(".", "_"): file.read(name) for name in file.namelist()}
    configs: dict[str, bytes] = {
        "no-json": b"{",
        "list": b"[]",
        "number": b"7",
        "deep": b"[" * 200_000,
        "deep-objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "huge": b" " * (70 << 20) + b"{}",
        "unknown": _config({"module": "keras.layers", "class_name": "NoSuchLayer", "config": {}}),
        "system": _config({"module": "os", "class_name": "system", "config": {"command": f"touch {touched}"}}),
        "eval": _config(
            {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"}
        ),
        "popen": _config({"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", touched]}}),
        "lambda": _config({"module": "keras.layers", "class_name": "Lambda",
                           "config": {"function": {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}}}),
        "pickled": _config({"class_name": "Lambda", "config": {"function": ["4wEAAAA=", None, None]}}),
        "escapes": json.dumps({"class_name": _ESCAPE, "config": {"name": _ESCAPE}}).encode(),
    }  # fmt: skip
    for name, config in configs.items():
        compression = zipfile.ZIP_DEFLATED if name == "huge" else zipfile.ZIP_STORED
        yield _archive(folder / f"{name}.keras", compression, **{**members, "config_json": config})
    yield _archive(folder / "no-config.keras", metadata_json=b"{}")
    yield _archive(folder / "no-weights.keras", config_json=members["config_json"], metadata_json=b"{}")
    yield _archive(folder / "bomb.keras", zipfile.ZIP_DEFLATED, **{**members, "model_weights_h5": bytes(300 << 20)})
    yield _archive(folder / "outside.keras", **{**members, "../../outside": b"x"})
    for name, content in (
        ("empty", b""), ("text", b"no model"), ("cut", good.read_bytes()[:2000]),
        ("swapped", good.read_bytes()[::-1]),
    ):  # fmt: skip
        for kind in (".keras", ".h5"):
            (folder / f"{name}{kind}").write_bytes(content)
            yield folder / f"{name}{kind}"
    calls_code = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: Path(touched).touch() or x)])
    (folder / "touched").unlink(missing_ok=True)  # by the call that builds the model here
    for kind in (".keras", ".h5"):
        yield Path(saved(calls_code, folder / f"real-lambda{kind}"))
    attributes = {"number": 7, "cut": "{", "bytes": np.void(b"\xff\0"), "deep": "[" * 50_000, "list": "[1]"}
    for name, attribute in attributes.items():
        with h5py.File(folder / f"attribute-{name}.h5", "w") as file:
            file.attrs["model_config"] = attribute
        yield folder / f"attribute-{name}.h5"
    with h5py.File(folder / "weights-alone.h5", "w") as file:
        file["a"] = 1
    yield folder / "weights-alone.h5"
    os.mkfifo(folder / "pipe.keras")
    os.mkfifo(folder / "pipe.h5")
    (folder / "endless.keras").symlink_to("/dev/zero")
    (folder / "dangling.h5").symlink_to("nowhere")
    (folder / "folder.keras").mkdir()
    for name in ("pipe.keras", "pipe.h5", "endless.keras", "dangling.h5", "folder.keras"):
        yield folder / name


def attempt_models(folder: Path, capture: Callable[[], tuple[str, str]]) -> Outcomes:
    """Lists the layers of each of them."""
    outcomes = Outcomes("hostile models")
    for path in hostile_models(folder):
        code, said = _attempt(["layers", path], capture)
        if (folder / "touched").exists() or (folder.parent / "outside").exists():
            outcomes.lost(f"{path.name}: code ran, or a file was written")
        elif code is None or (code and said.count("\n") > 1):
            outcomes.lost(f"{path.name}: {said}")
        else:
            outcomes.survived("refused in one line" if code else "loaded, which is safe")
    return outcomes


# --- names of classes -----------------------------------------------------------------------------------------------


def attempt_labels(folder: Path, capture: Callable[[], tuple[str, str]]) -> Outcomes:
    """Explains a picture with each of many files of names."""
    outcomes = Outcomes("hostile files of names")
    model, image = saved(network(), folder / "model.keras"), png(folder / "p.png")
    contents = {
        "empty": b"", "binary": bytes(range(256)), "blank": b"\n\n\n", "few": b"a\nb", "many": b"x\n" * 100_000,
        "escapes": f"{_ESCAPE}\nb\nc".encode(), "long": b"x" * 200_000 + b"\nb\nc", "rtl": "\u202ea\nb\nc".encode(),
        "list": b'["a", 1, null]', "nested": b'{"0": {"a": 1}}', "negative": b'{"-1": "a"}',
        "twice": b'{"a": 0, "b": 0}',
        "huge-number": b'{"9' + b"9" * 5000 + b'": "a"}', "deep": b"[" * 200_000, "cut": b'{"0": "a"',
        "float": b'{"0.5": "a"}',
        "utf-16": "a\nb\nc".encode("utf-16"), "nul": b"a\0\nb\nc",
    }  # fmt: skip
    paths = []
    for name, content in contents.items():
        (folder / f"{name}.txt").write_bytes(content)
        paths.append(folder / f"{name}.txt")
    with open(folder / "sparse.txt", "wb") as file:
        file.truncate(3 << 30)
    os.mkfifo(folder / "pipe.txt")
    (folder / "endless.txt").symlink_to("/dev/zero")
    for path in [*paths, folder / "sparse.txt", folder / "pipe.txt", folder / "endless.txt", folder]:
        words = ["explain", model, image, "--labels", path, "--out", folder / f"out-{path.stem}", *FAST]
        code, said = _attempt(words, capture)
        if code is None or (code and said.count("\n") > 1):
            outcomes.lost(f"{path.name}: {said[:300]}")
        else:
            outcomes.survived("refused in one line" if code else "taken")
    return outcomes


# --- manifests, journals and links ----------------------------------------------------------------------------------

_WRONG: tuple[Any, ...] = (
    None,
    7,
    "text",
    "../victim",
    "/etc/hostname",
    "a/b",
    "..",
    "",
    [],
    {},
    [7],
    {"a": 7},
    [["../victim"]],
)


def _manifests(good: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in good:
        for wrong in _WRONG:
            yield f"{key}={wrong!r}", {**good, key: wrong}
    for key in good["pictures"][0]:
        for wrong in _WRONG:
            yield f"pictures[0].{key}={wrong!r}", {**good, "pictures": [{**good["pictures"][0], key: wrong}]}
    for key in ("path", "name", "failure"):
        for wrong in _WRONG:
            entry = {"path": good["pictures"][0]["path"], "name": "p", "failure": "x", key: wrong}
            yield f"failures[0].{key}={wrong!r}", {**good, "pictures": [], "failures": [entry]}
    for wrong in _WRONG:
        yield repr(wrong), wrong


def attempt_manifests(folder: Path, capture: Callable[[], tuple[str, str]], every: int = 1) -> Outcomes:
    """Goes on with results whose manifest, or journal, somebody has changed.

    Args:
        folder: An empty folder.
        capture: Returns what was printed.
        every: Only every so many of them.
    """
    outcomes = Outcomes("changed manifests and journals")
    model, image = saved(network(), folder / "model.keras"), png(folder / "p.png")
    out, victim = folder / "out", folder / "victim"
    words = ["explain", model, image, "--out", out, *FAST]
    main([str(word) for word in words])
    capture()
    good = json.loads((out / MANIFEST).read_text())
    victim.write_text("safe")
    outside = _snapshot(folder, out)
    for number, (name, manifest) in enumerate(_manifests(good)):
        if number % every:
            continue
        for kind, overwrite in ((MANIFEST, False), (JOURNAL, False), (MANIFEST, True), (JOURNAL, True)):
            for path in out.iterdir():
                path.unlink()
            (out / kind).write_bytes(_journal(manifest) if kind == JOURNAL else json.dumps(manifest).encode())
            code, said = _attempt([*words, *(["--overwrite"] if overwrite else [])], capture)
            if _snapshot(folder, out) != outside:
                outcomes.lost(f"{kind}, {name}: something outside was changed")
                victim.write_text("safe")
            elif code is None or (code == 2 and said.count("\n") > 1):
                outcomes.lost(f"{kind}, {name}: {said[:300]}")
            else:
                outcomes.survived("refused in one line" if code else "taken")
    return outcomes


def _descriptions(good: dict) -> Iterator[tuple[str, Any]]:
    """Yields descriptions of rows with one value changed."""
    for key in good:
        for wrong in _WRONG:
            yield f"{key}={wrong!r}", {**good, key: wrong}
    for part in ("plan", "settings", "class_names"):
        for key in [*good[part], "x"]:
            for wrong in _WRONG:
                yield f"{part}.{key}={wrong!r}", {**good, part: {**good[part], key: wrong}}
            yield f"{part} without {key}", {**good, part: {k: v for k, v in good[part].items() if k != key}}
    for wrong in _WRONG:
        yield repr(wrong), wrong


def attempt_rows(folder: Path, capture: Callable[[], tuple[str, str]], every: int = 1) -> Outcomes:
    """Shows, and goes on with, rows whose description or files somebody has changed.

    Args:
        folder: An empty folder.
        capture: Returns what was printed.
        every: Only every so many of them.
    """
    import pyarrow
    import pyarrow.parquet

    outcomes = Outcomes("changed rows of data sets")
    model, image = saved(network(), folder / "model.keras"), png(folder / "p.png")
    out = folder / "rows"
    words = ["explain", model, image, "--out", out, "--format", "parquet"]
    main([str(word) for word in words])
    capture()
    (shard,), description = out.glob("*.parquet"), out / "_run.json"
    good, content = json.loads(description.read_text()), shard.read_bytes()
    table = pyarrow.parquet.read_table(shard)
    changed: list[tuple[str, bytes, bytes]] = [
        (f"description {name}", json.dumps(value).encode(), content) for name, value in _descriptions(good)
    ]
    for name in table.column_names:
        for wrong in _WRONG:
            with contextlib.suppress(pyarrow.ArrowException):
                buffer = io.BytesIO()
                column = table.column_names.index(name)
                pyarrow.parquet.write_table(table.set_column(column, name, pyarrow.array([wrong])), buffer)
                changed.append((f"{name}={wrong!r}", description.read_bytes(), buffer.getvalue()))
    changed += [(f"cut at {at}", description.read_bytes(), content[:at]) for at in range(0, len(content), 97)]
    outside = _snapshot(folder, out)
    for name, told, rows in changed[::every]:
        for command in (["show", out, "--out", folder / "sheet.png"], words):
            for path in out.iterdir():
                path.unlink()
            description.write_bytes(told)
            shard.write_bytes(rows)
            code, said = _attempt(command, capture)
            (folder / "sheet.png").unlink(missing_ok=True)
            if _snapshot(folder, out) != outside:
                outcomes.lost(f"{name}: something outside was changed")
            elif code is None or (code == 2 and said.count("\n") > 1):
                outcomes.lost(f"{command[0]}, {name}: {said[:300]}")
            else:
                outcomes.survived("refused in one line" if code else "taken")
    return outcomes


def _journal(manifest: Any) -> bytes:
    if not isinstance(manifest, dict):
        return json.dumps(manifest).encode() + b"\n"
    lists = [manifest.get(key) for key in ("pictures", "failures")]
    entries = [entry for entries in lists if isinstance(entries, list) for entry in entries]
    header = {key: value for key, value in manifest.items() if key not in ("pictures", "failures")}
    return b"".join(json.dumps(line).encode() + b"\n" for line in (header, *entries))


def _snapshot(folder: Path, out: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and out not in path.parents}


def attempt_links(folder: Path, capture: Callable[[], tuple[str, str]]) -> Outcomes:
    """Writes results into a folder in which somebody has put links, pipes and folders."""
    outcomes = Outcomes("links, pipes and folders among the results")
    model, image = saved(network(), folder / "model.keras"), png(folder / "p.png")
    names = (
        MANIFEST, JOURNAL, "p.npz", ".p.npz.unfinished", f".{MANIFEST}.unfinished", f".{JOURNAL}.unfinished",
        ".p.npz.0123456789abcdef.unfinished", f".writable-{os.getpid()}",
    )  # fmt: skip
    for name in names:
        for kind in ("link", "dangling", "pipe", "folder"):
            out, victim = folder / f"out-{kind}-{name}", folder / f"victim-{kind}-{name}"
            out.mkdir()
            victim.write_text("safe")
            if kind == "pipe":
                os.mkfifo(out / name)
            elif kind == "folder":
                (out / name).mkdir()
            else:
                (out / name).symlink_to(victim if kind == "link" else folder / f"new-{kind}-{name}")
            code, said = _attempt(["explain", model, image, "--out", out, *FAST], capture)
            if victim.read_text() != "safe" or (folder / f"new-{kind}-{name}").exists():
                outcomes.lost(f"{kind} {name}: the link was followed")
            elif code is None or (code and said.count("\n") > 1):
                outcomes.lost(f"{kind} {name}: {said[:300]}")
            else:
                outcomes.survived("refused in one line" if code else "replaced or left alone")
    return outcomes
