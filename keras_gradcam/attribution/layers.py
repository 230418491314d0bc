"""Layers: lists those with a feature map, chooses the one to explain, finds one by name."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from typing import Any, Union

from ..drawing.notebook import table
from ..engine import current_engine
from ..engine.base import InputSpec, LayerCall, LayerOutput, Structure
from ..engine.model import declared_inputs, layer_paths
from ..errors import ArgumentError
from ..grids import spatial_size
from .branches import other_branches
from .inputs import check_model, input_shape, input_spec_of, model_input_spec, preprocessed, standardized
from .tokens import LAYOUTS, is_attention, is_per_sample, token_candidates, token_outputs

#: What a function that takes a layer understands: a name, a path, a layer, or None for the automatic choice.
LayerLike = Union[str, Any, None]

# An unusual batch size, so that the batch axis cannot be mistaken for a spatial axis.
_SAMPLES = 13

# Maximum number of layers that an error proposes.
_MAX_LISTED = 8


class LayerList(list[LayerCall]):
    """A list of calls of layers that notebooks show as a table."""

    def _repr_markdown_(self) -> str:
        rows = [[f"`{call.path}`", call.layer_type, str(call.output_shape), str(call.call)] for call in self]
        return table(["layer", "class", "output shape", "call"], rows)


def list_layers(model: Any, images: Structure | None = None) -> LayerList:
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

    check_model(model)
    if images is not None:
        images = standardized(preprocessed(images, model), model)
    input_spec = model_input_spec(model) if images is None else input_spec_of(images)
    layer_outputs = sampled_calls(model, input_spec, 0 if images is None else len(keras.tree.flatten(images)[0]))
    maps = _feature_maps(layer_outputs, input_shape(input_spec))
    return LayerList(layer_output.info for layer_output in maps if is_per_sample(layer_output))


def sampled_calls(model: Any, input_spec: InputSpec, samples: int = 0) -> list[LayerOutput]:
    """Returns all layer calls for a batch of fixed size, by which one sees whether outputs keep the batch axis.

    Args:
        model: Any Keras model.
        input_spec: Of its inputs.
        samples: The batch size; if below two, that for which the model's inputs are declared, or any.
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
    wherever it is nested. Pooling only thins out the map before it, a permutation only turns it, and the model's own
    output is no feature, so these are passed over; so is the input itself, laid out anew.

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
        ArgumentError: If there is no such layer, several have that name, or its output is no feature map.
    """
    maps = _feature_maps(layer_outputs, shape)
    if layer is None:
        if layer_call is not None:
            raise ArgumentError("layer_call", "come with `layer`", f"layer=None, layer_call={layer_call!r}")
        return _last_feature_map(_own_maps(maps, layer_outputs, explained), layer_outputs, shape)
    named = {id(named_layer) for named_layer in _find(model, layer, maps)}
    calls = [layer_output for layer_output in layer_outputs if id(layer_output.layer) in named]
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
        received = f"{described(layer)}, whose output of shape {chosen.info.output_shape} has none"
        axes = len(chosen.info.output_shape) - 2
        if axes > 0 and axes not in (len(shape) - 1, len(shape)):
            received = f"{received[:-9]} has {axes} spatial axes where the input of shape {tuple(shape)} has others"
        raise _not_found(received, layer, maps, _ways_out(layer_outputs, shape))
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


def _own_maps(maps: Sequence[LayerOutput], layer_outputs: Sequence[LayerOutput], explained: int) -> list[LayerOutput]:
    """Returns the feature maps that are computed from the explained input and are more than the input laid out anew."""
    input_itself = _laid_out(layer_outputs)
    return [
        layer_output for layer_output in maps if _sees(layer_output, explained) and layer_output not in input_itself
    ]


def _laid_out(layer_outputs: Sequence[LayerOutput]) -> list[LayerOutput]:
    """Returns the calls before the first layer with weights that do no more than lay the input out anew."""
    before = itertools.takewhile(lambda layer_output: not getattr(layer_output.layer, "weights", ()), layer_outputs)
    return [layer_output for layer_output in before if layer_output.info.layer_type in LAYOUTS]


def _feature_maps(layer_outputs: Sequence[LayerOutput], shape: Sequence[int]) -> list[LayerOutput]:
    """Returns the calls whose outputs are feature maps over the input."""
    # Within attention, the axes of what looks like a map are heads and tokens: (batch, tokens, heads, ...).
    attentions = tuple(
        layer_output.info.path + "/"
        for layer_output in layer_outputs
        if is_attention(layer_output) and len(layer_output.info.output_shape) == 3
    )
    maps, counts = [], set()
    for layer_output in layer_outputs:
        extents = layer_output.info.output_shape[1:-1]
        if not spatial_size(shape, layer_output.info.output_shape):
            continue
        if len(extents) == 2 and layer_output.info.path.startswith(attentions):
            continue
        if len(shape) == 3 and len(extents) == 1:
            counts.add(extents[0])
        elif counts.intersection(extents) and not _in_proportion(extents, shape):
            continue
        maps.append(layer_output)
    return maps


def _in_proportion(extents: Sequence[int | None], size: Sequence[int]) -> bool:
    tall, broad = extents
    return tall is None or broad is None or tall * size[1] == broad * size[0]


def _last_feature_map(
    maps: Sequence[LayerOutput], layer_outputs: Sequence[LayerOutput], shape: Sequence[int]
) -> LayerOutput:
    """Chooses the last feature map that influences the score, without tokens."""
    inner = _inner_maps(maps, shape)
    computed = [layer_output for layer_output in inner if _is_computed(layer_output)]
    for choice in (computed, inner):
        if choice:
            return choice[-1]
    tokens = token_outputs(maps, shape)
    candidates = token_candidates(tokens, maps) if tokens else [layer_output.info.path for layer_output in maps]
    raise ArgumentError(
        "layer",
        "be named for a model in which no layer's output has the spatial axes of the input and influences the target",
        f"None, for an input of shape {tuple(shape)}",
        (_listed(candidates) if candidates else []) + _ways_out(layer_outputs, shape) or "none",
        values=candidates[:_MAX_LISTED],
    )


def _inner_maps(maps: Sequence[LayerOutput], shape: Sequence[int]) -> list[LayerOutput]:
    """Returns the feature maps, without tokens, that influence the score and are not the model's output itself."""
    # A nested model and its last layer return the very same tensor, and so does a layer that does nothing at
    # inference (dropout): the first to return a tensor is the layer that computed it.
    first_with_output: dict[int, LayerOutput] = {}
    for layer_output in maps:
        # Not tokens: which block of a transformer is informative cannot be told from shapes.
        if layer_output.influences_score and len(layer_output.info.output_shape) > len(shape):
            first_with_output.setdefault(id(layer_output.output), layer_output)
    return [layer_output for layer_output in first_with_output.values() if not layer_output.is_model_output]


def _is_computed(layer_output: LayerOutput) -> bool:
    return "Pooling" not in layer_output.info.layer_type and layer_output.info.layer_type != "Permute"


def branches_beside(
    chosen: LayerOutput, layer_outputs: Sequence[LayerOutput], shape: Sequence[int], explained: int
) -> list[str]:
    """Returns the paths of the last feature maps of the ways from the input to the score that go around a layer."""
    maps = _own_maps(_feature_maps(layer_outputs, shape), layer_outputs, explained)
    candidates = [layer_output for layer_output in _inner_maps(maps, shape) if _is_computed(layer_output)]
    return other_branches(chosen, candidates, layer_outputs)


def _ways_out(layer_outputs: Sequence[LayerOutput], shape: Sequence[int]) -> list[str]:
    """Returns what to do about a model whose feature maps have other spatial axes than its input."""
    ways = []
    extents = [layer_output.info.output_shape[1:-1] for layer_output in layer_outputs]
    if any(2 <= len(extent) < len(shape) - 1 for extent in extents):
        ways.append("a model with keras.layers.TimeDistributed around each layer that is applied to frames")
    for layer_output, extent in zip(layer_outputs, extents, strict=True):
        if len(extent) > max(len(shape) - 1, 1) and "/" not in layer_output.info.path:
            ways.append(
                "a model of what comes after the layer that makes pictures of the input, "
                f"keras.Model(model.get_layer({layer_output.info.path!r}).output, model.output)"
            )
            break
    return ways


def _find(model: Any, layer: LayerLike, maps: Sequence[LayerOutput]) -> list[Any]:
    """Returns the layers of ``model`` that ``layer`` names: one, perhaps reachable by several paths."""
    paths = layer_paths(model)
    if not isinstance(layer, str):
        if all(layer is not own_layer for _, own_layer in paths):
            raise _not_found(described(layer), layer, maps)
        return [layer]
    # Names may hold backslashes themselves, so a name as it stands comes before one with escapes.
    for name in (layer, _unescaped(layer)):
        for matches in (lambda path, name=name: path == name, lambda path, name=name: path.endswith("/" + name)):
            matching = {id(own_layer): (path, own_layer) for path, own_layer in paths if matches(path)}
            if len(matching) > 1:
                candidates = [path for path, _ in matching.values()]
                raise ArgumentError(
                    "layer",
                    "name one layer",
                    f"{layer!r}, which names {len(matching)}",
                    _listed(candidates),
                    values=candidates[:_MAX_LISTED],
                )
            if matching:
                return [own_layer for _, own_layer in matching.values()]
    raise _not_found(repr(layer), layer, maps)


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def described(layer: LayerLike) -> str:
    """Describes a layer: by what the user has called it, or its class and name."""
    return repr(layer) if isinstance(layer, str) else f"{type(layer).__name__} {getattr(layer, 'name', layer)!r}"


def _not_found(
    received: str, layer: LayerLike, maps: Sequence[LayerOutput], ways_out: Sequence[str] = ()
) -> ArgumentError:
    """Returns an error that proposes the layers with the nearest names, or the last ones where none is near."""
    paths = list(dict.fromkeys(layer_output.info.path for layer_output in maps))
    name = layer if isinstance(layer, str) else getattr(layer, "name", "")
    by_name = {path.rsplit("/", 1)[-1]: path for path in paths}
    near = [by_name[match] for match in difflib.get_close_matches(name.rsplit("/", 1)[-1], by_name, 5, 0.5)]
    near += [path for path in difflib.get_close_matches(name, paths, 5, 0.5) if path not in near]
    candidates = near or paths[-5:]
    return ArgumentError(
        "layer",
        "name a layer of the model whose output has the spatial axes of the input",
        received,
        [
            *(_listed(candidates) if candidates or not ways_out else []),
            *(["None for the last one"] if isinstance(layer, int) else []),
            *ways_out,
        ],
        values=candidates[:_MAX_LISTED],
    )


def _listed(paths: Sequence[str]) -> list[str]:
    """Returns paths as candidates of an error, the last one with the number of those left out."""
    shown, more = [repr(path) for path in paths[:_MAX_LISTED]] or ["none"], len(paths) - _MAX_LISTED
    return [*shown[:-1], f"{shown[-1]} and {more} more"] if more > 0 else shown
