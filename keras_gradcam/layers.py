"""Layers: list them, choose one, find one by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, Union

from .engine import current_engine
from .engine.base import Capture, LayerCall, Signature, Structure
from .engine.grid import spatial_size
from .engine.recording import declared_inputs, layer_paths

#: What a function that takes a layer understands: a name, a path, a layer, or None for the automatic choice.
LayerLike = Union[str, Any, None]


def list_layers(model: Any, images: Structure | None = None) -> list[LayerCall]:
    """Lists the layers whose maps can be computed, in the order in which the model calls them.

    Nested models are looked into; a layer that is called twice appears twice.

    Args:
        model: Any Keras model.
        images: A batch of inputs, for models that do not know the shape of their input (subclassed ones).

    Returns:
        One entry per call of a layer with spatial extent: path, class, output shape, number of the call.

    Raises:
        ValueError: If the shape of the input is unknown, or ``images`` does not fit the model.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        >>> list_layers(model)
        [LayerCall(path='conv', layer_type='Conv2D', output_shape=(None, 6, 6, 4), call=0)]
    """
    signature = model_signature(model) if images is None else signature_of(images)
    shape = input_shape(signature)
    return [
        capture.info
        for capture in current_engine().layer_calls(model, signature)
        if spatial_size(shape, capture.info.output_shape)
    ]


def signature_of(images: Structure) -> Signature:
    """Shapes and dtypes of a batch of inputs."""
    import keras

    flat = keras.tree.flatten(images)
    structure = keras.tree.map_structure(lambda _: 0, images)
    return Signature(structure, tuple((tuple(leaf.shape[1:]), str(leaf.dtype)) for leaf in flat))


def model_signature(model: Any) -> Signature:
    """Shapes and dtypes of what ``model`` takes.

    Raises:
        ValueError: If the model does not know them.
    """
    import keras

    flat = declared_inputs(model)
    if not flat:
        raise ValueError(
            "`images` must be given for a model that does not know the shape of its input. "
            f"Received: images=None and a model of type {type(model).__name__}. "
            "Candidates: any batch the model can be called with."
        )
    # A sequential model may have no `input`; whether a functional one takes a list or a dict only `input` tells.
    return signature_of(flat[0] if len(flat) == 1 and isinstance(model, keras.Sequential) else model.input)


def explained_input(signature: Signature, which: int | None = None) -> int:
    """The position, in flat order, of the input that is explained: by default the first of the highest rank."""
    ranks = [len(shape) for shape, _ in signature.leaves]
    if which is None:
        return ranks.index(max(ranks))
    if which not in range(len(ranks)):
        raise ValueError(
            f"`input_index` must be the position of one of the model's inputs. Received: {which!r}. "
            f"Candidates: 0 to {len(ranks) - 1}."
        )
    return which


def input_shape(signature: Signature, which: int | None = None) -> tuple[int, ...]:
    """The shape of the explained input without the batch, ``(H, W, C)`` for pictures."""
    return signature.leaves[explained_input(signature, which)][0]


def choose_layer(
    model: Any,
    captures: Sequence[Capture],
    shape: Sequence[int],
    layer: LayerLike = None,
    layer_call: int | None = None,
    explained: int = 0,
) -> Capture:
    """Chooses the feature map that is explained among all layer calls of a forward pass.

    Without a ``layer`` it is the last one with spatial extent, in the order of execution, that the score depends on,
    wherever it is nested. Pooling only thins out the map before it and the model's own output is no feature, so both
    are passed over.

    Args:
        model: The model the calls belong to.
        captures: All layer calls, in the order of execution.
        shape: Shape of the explained input without the batch.
        layer: A layer's name, its path ("backbone/conv5_block3_out"), the layer itself, or None.
        layer_call: Which call of a layer that is called several times: 0 for the first, -1 for the last; by default
            the last one the score depends on and the explained input goes into.
        explained: Index of the explained input. A siamese model calls the same layers for every input; a map of one
            call says nothing about the picture of another.

    Raises:
        ValueError: If there is no such layer, several have that name, or its output is no feature map.
    """
    maps = [capture for capture in captures if spatial_size(shape, capture.info.output_shape)]
    if layer is None:
        if layer_call is not None:
            raise ValueError(f"`layer_call` must come with `layer`. Received: layer=None, layer_call={layer_call!r}.")
        return _last_feature_map([capture for capture in maps if _sees(capture, explained)], shape)
    wanted = {id(found) for found in _find(model, layer, maps)}
    calls = [capture for capture in captures if id(capture.layer) in wanted]
    if not calls:
        raise _not_found(
            f"{_described(layer)}, which the model does not call where its result could be seen "
            "(not at all, or inside a loop)",
            layer,
            maps,
        )
    if layer_call is None:
        own = [capture for capture in calls if _sees(capture, explained)] or calls
        chosen = next((capture for capture in reversed(own) if capture.influences_score), own[-1])
    elif -len(calls) <= layer_call < len(calls):
        chosen = calls[layer_call]
    else:
        raise ValueError(
            f"`layer_call` must be one of the calls of {calls[0].info.path!r}. Received: {layer_call!r}. "
            f"Candidates: 0 to {len(calls) - 1}, or -{len(calls)} to -1 from the end."
        )
    if spatial_size(shape, chosen.info.output_shape) is None:
        raise _not_found(f"{_described(layer)}, whose output of shape {chosen.info.output_shape} has none", layer, maps)
    return chosen


def find_model(model: Any, name: Any) -> Any:
    """A model within ``model``, by its name, its path or itself.

    Raises:
        ValueError: If there is none, or several have that name.
    """
    import keras

    inner = {path: layer for path, layer in layer_paths(model) if isinstance(layer, keras.Model)}
    found = [layer for path, layer in inner.items() if layer is name or name in (path, layer.name)]
    if len({id(layer) for layer in found}) != 1:
        raise ValueError(
            "`branch` must name one model within the model. "
            f"Received: {_described(name)}{', which names several' if found else ''}. "
            f"Candidates: {_listed(list(inner))}."
        )
    return found[0]


def _sees(capture: Capture, explained: int) -> bool:
    return not capture.inputs or explained in capture.inputs


def _last_feature_map(maps: Sequence[Capture], shape: Sequence[int]) -> Capture:
    # A nested model and its last layer return the very same tensor, and so does a layer that does nothing at
    # inference (dropout): the first to return it is the one that made it.
    made: dict[int, Capture] = {}
    for capture in maps:
        # Not tokens: which block of a transformer says something cannot be told from shapes.
        if capture.influences_score and len(capture.info.output_shape) > len(shape):
            made.setdefault(id(capture.output), capture)
    inner = [capture for capture in made.values() if not capture.is_model_output]
    unpooled = [capture for capture in inner if "Pooling" not in capture.info.layer_type]
    for choice in (unpooled, inner):
        if choice:
            return choice[-1]
    raise ValueError(
        "`layer` must be named for a model in which no layer's output has the spatial axes of the input and "
        f"influences the target. Received: layer=None, input of shape {tuple(shape)}. "
        f"Candidates: {_listed([capture.info.path for capture in maps])}."
    )


def _find(model: Any, layer: LayerLike, maps: Sequence[Capture]) -> list[Any]:
    """The layers of ``model`` that ``layer`` names: one, perhaps reachable by several paths."""
    paths = layer_paths(model)
    if not isinstance(layer, str):
        if all(layer is not known for _, known in paths):
            raise _not_found(_described(layer), layer, maps)
        return [layer]
    # Names may hold backslashes themselves, so a name as it stands comes before one with escapes.
    for name in (layer, _unescaped(layer)):
        for matches in (lambda path, name=name: path == name, lambda path, name=name: path.endswith("/" + name)):
            found = {id(known): (path, known) for path, known in paths if matches(path)}
            if len(found) > 1:
                raise ValueError(
                    "`layer` must name one layer. "
                    f"Received: {layer!r}, which names {len(found)}. "
                    f"Candidates: {_listed([path for path, _ in found.values()])}, or the layer object itself."
                )
            if found:
                return [known for _, known in found.values()]
    raise _not_found(repr(layer), layer, maps)


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def _described(layer: LayerLike) -> str:
    return repr(layer) if isinstance(layer, str) else f"{type(layer).__name__} {getattr(layer, 'name', layer)!r}"


def _not_found(received: str, layer: LayerLike, maps: Sequence[Capture]) -> ValueError:
    paths = list(dict.fromkeys(capture.info.path for capture in maps))
    name = layer if isinstance(layer, str) else getattr(layer, "name", "")
    # Nearest by the whole path and by its last name; the last layers, which one mostly wants, where nothing is near.
    by_name = {path.rsplit("/", 1)[-1]: path for path in paths}
    near = [by_name[found] for found in difflib.get_close_matches(name.rsplit("/", 1)[-1], by_name, 5, 0.5)]
    near += [found for found in difflib.get_close_matches(name, paths, 5, 0.5) if found not in near]
    return ValueError(
        "`layer` must name a layer of the model whose output has spatial extent. "
        f"Received: {received}. Candidates: {_listed(near or paths[-5:])}."
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:8])) or "none"
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
