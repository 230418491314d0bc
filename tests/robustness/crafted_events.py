"""Event files that no callback writes: each tag of the tab with wrong types, shapes, contents, nesting and sizes."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import tab_runs
from robustness.outcomes import Outcomes
from tab_server import Server
from tensorboard.compat.proto import types_pb2
from tensorboard.compat.proto.summary_pb2 import (
    DATA_CLASS_BLOB_SEQUENCE,
    DATA_CLASS_SCALAR,
    DATA_CLASS_TENSOR,
    Summary,
    SummaryMetadata,
)
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.util.tensor_util import make_tensor_proto

from keras_gradcam.cli import main
from keras_gradcam.tensorboard_plugin import metadata

TAGS = (
    metadata.RUN,
    metadata.PICTURES,
    metadata.PARTNERS,
    metadata.MAPS,
    metadata.PARTNER_MAPS,
    metadata.NUMBERS,
    metadata.GUIDED,
    metadata.START_MAPS,
    metadata.START_PARTNER_MAPS,
    metadata.START_NUMBERS,
    metadata.START_GUIDED,
    metadata.REPORT,
)
ROUTES = ("/maps", "/partner_maps", "/numbers", "/pictures", "/partners")


def tensor(dtype, shape, content=b""):
    return TensorProto(
        dtype=dtype,
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape]),
        tensor_content=content,
    )


def texts(*values):
    return make_tensor_proto(np.array(values, dtype=object))


def described(**changes):
    """A description with something wrong in it."""
    return texts(json.dumps(json.loads(tab_runs.run_info(2).to_json()) | changes).encode())


def variants():
    """Name to tensor: what may stand under any tag."""
    yield "float scalar", make_tensor_proto(np.float32(3))
    yield "whole scalar", make_tensor_proto(np.int64(1 << 40))
    yield "bool", make_tensor_proto(np.array([True, False]))
    yield "complex", make_tensor_proto(np.ones((2, 3, 3), np.complex64))
    yield "whole maps", make_tensor_proto(np.ones((2, 3, 3), np.int32))
    yield "double maps", make_tensor_proto(np.ones((2, 3, 3)))
    yield "one axis", make_tensor_proto(np.ones(5, np.float32))
    yield "five axes", make_tensor_proto(np.ones((1, 1, 2, 2, 2), np.float32))
    yield "no probes", make_tensor_proto(np.ones((0, 3, 3), np.float32))
    yield "no cells", make_tensor_proto(np.ones((100_000, 0, 3), np.float32))
    yield "not finite", make_tensor_proto(np.full((2, 3, 3), np.nan, np.float32))
    yield "empty texts", texts()
    yield "texts of bytes", texts(b"\xff\xfe\0", b"")
    yield "long text", texts(b"x" * (9 << 20))
    yield "deep JSON", texts(b"[" * 100_000 + b"]" * 100_000)
    yield "deep object", texts(b'{"version":1,"probes":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}")
    yield "JSON of another kind", texts(b"[1, 2]")
    yield "later version", described(version=99)
    yield "probes as a number", described(probes=7)
    yield "many probes", described(probes=[{"label": 0}] * 5000)
    yield "huge label", described(probes=[{"label": 10**400}])
    yield "not a number", texts(tab_runs.run_info(2).to_json().replace("[96,96]", "[NaN,Infinity]").encode())
    yield "nested layer", described(layer={"a": [1]}, class_names={"x": {"y": 1}})
    yield "no columns", described(columns=[])
    yield "foreign columns", described(columns=["a", "b"])
    yield "unknown type", tensor(99, (2, 3, 3))
    yield "reference type", tensor(types_pb2.DT_FLOAT_REF, (2,))
    yield "content cut off", tensor(types_pb2.DT_FLOAT, (2, 3, 3), b"1234567")
    yield "negative shape", tensor(types_pb2.DT_FLOAT, (-1, -7), b"1234")
    yield "nothing", TensorProto()


def kinds():
    """Name to the values that a crafted file holds beside a good description."""
    for tag in TAGS:
        for name, proto in variants():
            yield (
                f"{tag}: {name}",
                _value(tag, proto, DATA_CLASS_TENSOR if "guided" not in tag else DATA_CLASS_BLOB_SEQUENCE),
            )
        good = make_tensor_proto(np.ones((2, 3, 3), np.float32))
        yield f"{tag}: scalar class", _value(tag, good, DATA_CLASS_SCALAR)
        yield f"{tag}: blob class", _value(tag, good, DATA_CLASS_BLOB_SEQUENCE)


def _value(tag, proto, data_class):
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=b"\xff" * 7)
    return Summary.Value(tag=tag, tensor=proto, metadata=SummaryMetadata(plugin_data=plugin, data_class=data_class))


def write(folder, value, number):
    """A good run to which the crafted value was added; every third has strange steps, every fifth strange times."""
    if number % 2:
        tab_runs.write_run(folder, epochs=1, probes=2, grid=(3, 3))
    writer = tab_runs.RunWriter(folder)
    if not number % 2 and value.tag != metadata.RUN:
        from keras_gradcam.tensorboard_plugin import summary

        writer.add(0, summary.run_summary(tab_runs.run_info(2)))
    step = (0, -5, (1 << 62))[number % 3]
    writer.add(step, value, wall_time=math.nan if number % 5 == 4 else None)
    writer.close()


def attempt(folder, loader, limit=None, seed=0):
    """Serves all crafted runs beside a good one, and asks for everything.

    Args:
        folder: An empty folder.
        loader: "fast" or "slow".
        limit: So many kinds, chosen at random; all by default.
        seed: Of that choice.
    """
    chosen = list(enumerate(kinds()))
    if limit is not None:
        order = np.random.default_rng(seed).permutation(len(chosen))[:limit]
        chosen = [chosen[index] for index in sorted(order)]
    names = {f"{number:04d}": name for number, (name, _) in chosen}
    for number, (_, value) in chosen:
        write(folder / f"{number:04d}", value, number)
    tab_runs.write_run(folder / "good", epochs=3, probes=2)
    outcomes = Outcomes(f"crafted event files, {loader} loader")
    server = Server(folder, loader)
    try:
        server.wait_for(lambda server: _is_whole(server) and len(server.runs()) >= len(names) - 40)
        listed = server.runs()
        good, _ = server.series("/maps", "good")
        for run, name in names.items():
            problem = None if len(good) == 4 and listed["good"]["error"] is None else "the good run is gone"
            for route, query in [
                *((route, {}) for route in ROUTES),
                ("/guided", {"epoch": 0}),
                ("/guided", {"epoch": -1}),
            ]:
                status = server.client.get(
                    "/data/plugin/gradcam" + route, query_string={"run": run, **query}
                ).status_code
                if status >= 500:
                    problem = f"{route} answers {status}"
            if problem:
                outcomes.lost(f"{name}: {problem}")
            elif run not in listed:
                outcomes.survived("not shown, since TensorBoard lists no such run")
            else:
                outcomes.survived("unreadable with its reason" if listed[run]["error"] else "shown as far as readable")
    finally:
        server.close()
    return outcomes


def _is_whole(server):
    run = server.runs().get("good")
    return run is not None and run["last_epoch"] == 2


def attempt_reports(folder, capture):
    """Reports on the runs of :func:`attempt`, which lie in ``folder``."""
    outcomes = Outcomes("crafted event files, `report`")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = main(["report", str(folder)])
    printed = capture()
    for run in sorted(path.name for path in folder.iterdir()):
        if code not in (0, 1) or "# good\n" not in printed:
            outcomes.lost(f"{run}: the report of the good run is gone")
        else:
            outcomes.survived(
                "reported" if f"# {run}\n" in printed else "left out, with its reason where it is damaged"
            )
    return outcomes
