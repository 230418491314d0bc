"""Layers: list them, choose one, find one by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, Union

from ..engine import current_engine
from ..engine.base import InputSpec, LayerCall, LayerOutput, Structure
from ..engine.model import declared_inputs, layer_paths
from ..errors import ArgumentError
from ..grids import spatial_size
from .inputs import input_shape, input_spec_of, model_input_spec
from .tokens import _attends, _candidates, _is_per_sample, _tokens

#: What a function that takes a layer understands: a name, a path, a layer, or None for the automatic choice.
LayerLike = Union[str, Any, None]

# A number of samples that is no usual extent of a map, so that a batch can be told from other axes.
_SAMPLES = 13


def list_layers(model: Any, images: Structure | None = None) -> list[LayerCall]:
    """Lists the layers whose maps can be computed, in the order in which the model calls them.

    Nested models are looked into; a layer that is called twice appears twice. What an attention computes inside, head
    by head, is no map and does not appear.

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
    import keras

    input_spec = model_input_spec(model) if images is None else input_spec_of(images)
    layer_outputs = sampled_calls(model, input_spec, 0 if images is None else len(keras.tree.flatten(images)[0]))
    return [one.info for one in _feature_maps(layer_outputs, input_shape(input_spec)) if _is_per_sample(one)]


def sampled_calls(model: Any, input_spec: InputSpec, samples: int = 0) -> list[LayerOutput]:
    """All layer calls for a number of samples, by which one sees whether outputs keep the batch.

    Args:
        model: Any Keras model.
        input_spec: Of its inputs.
        samples: How many; where they are fewer than two, as many as the model's inputs are declared for, or any.
    """
    fixed = {leaf.shape[0] for leaf in declared_inputs(model)} - {None}
    count = samples if samples > 1 else next(iter(fixed), _SAMPLES)
    return current_engine().layer_calls(model, input_spec, count)


def choose_layer(
    model: Any,
    layer_outputs: Sequence[LayerOutput],
    shape: Sequence[int],
    layer: LayerLike = None,
    layer_call: int | None = None,
    explained: int = 0,
) -> LayerOutput:
    """Chooses the feature map that is explained among all layer calls of a forward pass.

    Without a ``layer`` it is the last one with spatial extent, in the order of execution, that the score depends on,
    wherever it is nested. Pooling only thins out the map before it and the model's own output is no feature, so both
    are passed over.

    Args:
        model: The model the calls belong to.
        layer_outputs: All layer calls, in the order of execution.
        shape: Shape of the explained input without the batch.
        layer: A layer's name, its path ("backbone/conv5_block3_out"), the layer itself, or None.
        layer_call: Which call of a layer that is called several times: 0 for the first, -1 for the last; by default
            the last one the score depends on and the explained input goes into.
        explained: Index of the explained input. A siamese model calls the same layers for every input; a map of one
            call says nothing about the picture of another.

    Raises:
        ValueError: If there is no such layer, several have that name, or its output is no feature map.
    """
    maps = _feature_maps(layer_outputs, shape)
    if layer is None:
        if layer_call is not None:
            raise ArgumentError("layer_call", "come with `layer`", f"layer=None, layer_call={layer_call!r}")
        return _last_feature_map([layer_output for layer_output in maps if _sees(layer_output, explained)], shape)
    wanted = {id(found) for found in _find(model, layer, maps)}
    calls = [layer_output for layer_output in layer_outputs if id(layer_output.layer) in wanted]
    if not calls:
        raise _not_found(
            f"{described(layer)}, which the model does not call where its result could be seen "
            "(not at all, or inside a loop)",
            layer,
            maps,
        )
    if layer_call is None:
        own = [layer_output for layer_output in calls if _sees(layer_output, explained)] or calls
        chosen = next((layer_output for layer_output in reversed(own) if layer_output.influences_score), own[-1])
    elif -len(calls) <= layer_call < len(calls):
        chosen = calls[layer_call]
    else:
        raise ArgumentError(
            "layer_call",
            f"be one of the calls of {calls[0].info.path!r}",
            repr(layer_call),
            f"0 to {len(calls) - 1}, or -{len(calls)} to -1 from the end",
        )
    if chosen not in maps:
        raise _not_found(f"{described(layer)}, whose output of shape {chosen.info.output_shape} has none", layer, maps)
    return chosen


def check_layer_sees(chosen: LayerOutput, explained: int) -> None:
    """Raises ArgumentError unless the chosen layer is computed from the explained input."""
    if chosen.inputs and explained not in chosen.inputs:
        raise ArgumentError(
            "layer",
            "be computed from the explained input",
            f"call {chosen.info.call} of {chosen.info.path!r}, and input_index={explained}",
            [f"input_index={chosen.inputs[0]}", "another layer_call"],
        )


def _sees(layer_output: LayerOutput, explained: int) -> bool:
    return not layer_output.inputs or explained in layer_output.inputs


def _feature_maps(layer_outputs: Sequence[LayerOutput], shape: Sequence[int]) -> list[LayerOutput]:
    """The layer_outputs whose outputs are maps over the input."""
    # Within attention, the axes of what looks like a map are heads and tokens: (batch, tokens, heads, ...).
    attentions = tuple(
        layer_output.info.path + "/"
        for layer_output in layer_outputs
        if _attends(layer_output) and len(layer_output.info.output_shape) == 3
    )
    maps, counts = [], set()
    for layer_output in layer_outputs:
        extents = layer_output.info.output_shape[1:-1]
        if not spatial_size(shape, layer_output.info.output_shape):
            continue
        if len(extents) == 2 and layer_output.info.path.startswith(attentions):
            continue
        if layer_output.info.layer_type == "Permute" and sorted(layer_output.layer.dims) != list(
            layer_output.layer.dims
        ):
            continue  # a map with rows for columns
        if len(shape) == 3 and len(extents) == 1:
            counts.add(extents[0])
        elif counts.intersection(extents) and not _in_proportion(extents, shape):
            continue
        maps.append(layer_output)
    return maps


def _in_proportion(extents: Sequence[int | None], size: Sequence[int]) -> bool:
    tall, broad = extents
    return tall is None or broad is None or tall * size[1] == broad * size[0]


def _last_feature_map(maps: Sequence[LayerOutput], shape: Sequence[int]) -> LayerOutput:
    # A nested model and its last layer return the very same tensor, and so does a layer that does nothing at
    # inference (dropout): the first to return it is the one that made it.
    made: dict[int, LayerOutput] = {}
    for layer_output in maps:
        # Not tokens: which block of a transformer says something cannot be told from shapes.
        if layer_output.influences_score and len(layer_output.info.output_shape) > len(shape):
            made.setdefault(id(layer_output.output), layer_output)
    inner = [layer_output for layer_output in made.values() if not layer_output.is_model_output]
    unpooled = [layer_output for layer_output in inner if "Pooling" not in layer_output.info.layer_type]
    for choice in (unpooled, inner):
        if choice:
            return choice[-1]
    tokens = _tokens(maps, shape)
    candidates = _candidates(tokens, maps) if tokens else [layer_output.info.path for layer_output in maps]
    raise ArgumentError(
        "layer",
        "be named for a model in which no layer's output has the spatial axes of the input and influences the target",
        f"None, for an input of shape {tuple(shape)}",
        str(_listed(candidates)),
    )


def _find(model: Any, layer: LayerLike, maps: Sequence[LayerOutput]) -> list[Any]:
    """The layers of ``model`` that ``layer`` names: one, perhaps reachable by several paths."""
    paths = layer_paths(model)
    if not isinstance(layer, str):
        if all(layer is not known for _, known in paths):
            raise _not_found(described(layer), layer, maps)
        return [layer]
    # Names may hold backslashes themselves, so a name as it stands comes before one with escapes.
    for name in (layer, _unescaped(layer)):
        for matches in (lambda path, name=name: path == name, lambda path, name=name: path.endswith("/" + name)):
            found = {id(known): (path, known) for path, known in paths if matches(path)}
            if len(found) > 1:
                raise ArgumentError(
                    "layer",
                    "name one layer",
                    f"{layer!r}, which names {len(found)}",
                    _listed([path for path, _ in found.values()]),
                )
            if found:
                return [known for _, known in found.values()]
    raise _not_found(repr(layer), layer, maps)


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def described(layer: LayerLike) -> str:
    """A layer in words: what the user has called it, or its class and name."""
    return repr(layer) if isinstance(layer, str) else f"{type(layer).__name__} {getattr(layer, 'name', layer)!r}"


def _not_found(received: str, layer: LayerLike, maps: Sequence[LayerOutput]) -> ValueError:
    paths = list(dict.fromkeys(layer_output.info.path for layer_output in maps))
    name = layer if isinstance(layer, str) else getattr(layer, "name", "")
    # Nearest by the whole path and by its last name; the last layers, which one mostly wants, where nothing is near.
    by_name = {path.rsplit("/", 1)[-1]: path for path in paths}
    near = [by_name[found] for found in difflib.get_close_matches(name.rsplit("/", 1)[-1], by_name, 5, 0.5)]
    near += [found for found in difflib.get_close_matches(name, paths, 5, 0.5) if found not in near]
    return ArgumentError(
        "layer",
        "name a layer of the model whose output has spatial extent",
        str(received),
        str(_listed(near or paths[-5:])),
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:8])) or "none"
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
