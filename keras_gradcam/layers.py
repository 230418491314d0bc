"""Layers: list them, choose one, find one by name."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

from .engine import current_engine
from .engine.base import Capture, LayerCall, Signature, Structure
from .engine.grid import spatial_size, token_grid
from .engine.recording import declared_inputs, layer_paths

#: What a function that takes a layer understands: a name, a path, a layer, or None for the automatic choice.
LayerLike = Union[str, Any, None]

# A grid of fewer tokens shows nothing, and a handful of vectors may look like one.
_FEWEST_TOKENS = 9
# So many layers of tokens are named as candidates.
_CANDIDATES = 3
# A number of samples that is no usual extent of a map, so that a batch can be told from other axes.
_SAMPLES = 13
# Layers that only lay out anew what they are given.
_LAYOUTS = ("Reshape", "Permute", "Flatten")


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

    signature = model_signature(model) if images is None else signature_of(images)
    captures = sampled_calls(model, signature, 0 if images is None else len(keras.tree.flatten(images)[0]))
    return [one.info for one in _feature_maps(captures, input_shape(signature)) if _is_per_sample(one)]


def sampled_calls(model: Any, signature: Signature, samples: int = 0) -> list[Capture]:
    """All layer calls for a number of samples, by which one sees whether outputs keep the batch.

    Args:
        model: Any Keras model.
        signature: Of its inputs.
        samples: How many; where they are fewer than two, as many as the model's inputs are declared for, or any.
    """
    fixed = {leaf.shape[0] for leaf in declared_inputs(model)} - {None}
    count = samples if samples > 1 else next(iter(fixed), _SAMPLES)
    return current_engine().layer_calls(model, signature, count)


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
    maps = _feature_maps(captures, shape)
    if layer is None:
        if layer_call is not None:
            raise ValueError(f"`layer_call` must come with `layer`. Received: layer=None, layer_call={layer_call!r}.")
        return _last_feature_map([capture for capture in maps if _sees(capture, explained)], shape)
    wanted = {id(found) for found in _find(model, layer, maps)}
    calls = [capture for capture in captures if id(capture.layer) in wanted]
    if not calls:
        raise _not_found(
            f"{described(layer)}, which the model does not call where its result could be seen "
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
    if chosen not in maps:
        raise _not_found(f"{described(layer)}, whose output of shape {chosen.info.output_shape} has none", layer, maps)
    return chosen


@dataclass(frozen=True)
class Tokens:
    """Tokens on the way from a feature map to the score.

    Attributes:
        layers: How many layers make them.
        candidates: Paths of those worth explaining, best first.
    """

    layers: int
    candidates: tuple[str, ...]


def tokens_after(
    chosen: Capture, captures: Sequence[Capture], shape: Sequence[int], explained: int = 0
) -> Tokens | None:
    """What a transformer makes of the feature map that :func:`choose_layer` chose by itself, or None without one.

    Its choice is then a patch embedding, or the features that a convolutional stem hands to the transformer.

    Candidates are the last normalisations before an attention, where every token still counts. A score that is read
    from a class token depends on no other token after the last attention, so that maps are empty there.

    Args:
        chosen: The choice.
        captures: All layer calls, in the order of execution.
        shape: Shape of the explained input without the batch.
        explained: Index of the explained input.
    """
    computed = [capture for capture in captures if explained in capture.inputs]
    following = computed[computed.index(chosen) + 1 :] if chosen in computed else []
    # Where the map is pooled into a vector it ends; what looks like tokens after that are parts of the vector.
    way = list(itertools.takewhile(lambda capture: not _is_vector(capture), following))
    tokens = [capture for capture in _tokens(way, shape) if capture.inputs == (explained,)]
    # Cells that are laid out anew, or of which each is seen by itself (a dense layer), are still those of the map.
    attended = any(_attends(capture) and capture.inputs == (explained,) for capture in way)
    learned = any(_learns(capture) and not _holds(capture, chosen) for capture in tokens)
    if not attended and not (learned and sum(_normalizes(capture) for capture in tokens) > 1):
        return None
    candidates = _candidates(tokens, way)
    return Tokens(len(tokens), candidates) if candidates else None


def find_model(model: Any, name: Any) -> Any:
    """A model within ``model``, by its name, its path or itself; or one made of the same layers.

    Raises:
        ValueError: If there is none, or several have that name.
    """
    import keras

    if isinstance(name, keras.Model) and name.weights:
        known = {id(weight) for weight in model.weights}
        if all(id(weight) in known for weight in name.weights):
            return name

    inner = {path: layer for path, layer in layer_paths(model) if isinstance(layer, keras.Model)}
    found = [layer for path, layer in inner.items() if layer is name or name in (path, layer.name)]
    if len({id(layer) for layer in found}) != 1:
        raise ValueError(
            "`branch` must name one model within the model, or be a model made of its layers. "
            f"Received: {described(name)}{', which names several' if found else ''}. "
            f"Candidates: {_listed(list(inner))}; keras.Model(model.input, model.get_layer('embedding').output)."
        )
    return found[0]


def _sees(capture: Capture, explained: int) -> bool:
    return not capture.inputs or explained in capture.inputs


def _feature_maps(captures: Sequence[Capture], shape: Sequence[int]) -> list[Capture]:
    """The captures whose outputs are maps over the input."""
    # Within attention, the axes of what looks like a map are heads and tokens: (batch, tokens, heads, ...).
    attentions = tuple(
        capture.info.path + "/" for capture in captures if _attends(capture) and len(capture.info.output_shape) == 3
    )
    maps, counts = [], set()
    for capture in captures:
        extents = capture.info.output_shape[1:-1]
        if not spatial_size(shape, capture.info.output_shape):
            continue
        if len(extents) == 2 and capture.info.path.startswith(attentions):
            continue
        if capture.info.layer_type == "Permute" and sorted(capture.layer.dims) != list(capture.layer.dims):
            continue  # a map with rows for columns
        if len(shape) == 3 and len(extents) == 1:
            counts.add(extents[0])
        elif counts.intersection(extents) and not _in_proportion(extents, shape):
            continue
        maps.append(capture)
    return maps


def _in_proportion(extents: Sequence[int | None], size: Sequence[int]) -> bool:
    tall, broad = extents
    return tall is None or broad is None or tall * size[1] == broad * size[0]


def _attends(capture: Capture) -> bool:
    return "attention" in capture.info.layer_type.lower()


def _normalizes(capture: Capture) -> bool:
    kind = capture.info.layer_type.lower()
    return "norm" in kind and "batch" not in kind


def _is_per_sample(capture: Capture) -> bool:
    return capture.info.output_shape[:1] == (None,)


def _learns(capture: Capture) -> bool:
    return bool(getattr(capture.layer, "weights", ())) and not _normalizes(capture)


def _holds(outer: Capture, inner: Capture) -> bool:
    return inner.info.path.startswith(outer.info.path + "/")


def _is_vector(capture: Capture) -> bool:
    """Whether it is a vector for each picture, on the way to the score."""
    return len(capture.info.output_shape) < 3 and capture.influences_score


def _tokens(captures: Sequence[Capture], shape: Sequence[int]) -> list[Capture]:
    """Those that made tokens which lie on a grid and influence the score."""
    made: dict[int, Capture] = {}
    for capture in captures:
        if _cells(capture, shape) >= _FEWEST_TOKENS and capture.influences_score and _is_per_sample(capture):
            made.setdefault(id(capture.output), capture)
    return list(made.values())


def _candidates(tokens: Sequence[Capture], way: Sequence[Capture]) -> tuple[str, ...]:
    """Paths of the tokens to explain, best first: the last normalisations before the last attentions."""
    attentions = [capture for capture in way if _attends(capture)]
    # An attention may be a layer around another one.
    inmost = [one for one in attentions if not any(_holds(one, other) for other in attentions)]
    changed = [capture for capture in tokens if capture.info.layer_type not in _LAYOUTS]
    outside = [capture for capture in changed if not any(_holds(one, capture) for one in inmost)]
    norms = [capture for capture in outside if _normalizes(capture)]
    before = [[capture for capture in outside if way.index(capture) < way.index(one)] for one in inmost]
    found = [([one for one in earlier if one in norms] or earlier)[-1] for earlier in before if earlier]
    # Attention that goes by another name: each block has two normalisations, and another one may stand at the end.
    found = found or norms[-3::-2][::-1] or (norms or outside or changed)[:1]
    return tuple(dict.fromkeys(capture.info.path for capture in reversed(found)))[:_CANDIDATES]


def _cells(capture: Capture, shape: Sequence[int]) -> int:
    """How many tokens lie on a grid; 0 if none do."""
    grid = token_grid(capture.info.output_shape, shape[:-1])
    return 0 if grid is None else math.prod(grid)


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
    tokens = _tokens(maps, shape)
    candidates = _candidates(tokens, maps) if tokens else [capture.info.path for capture in maps]
    raise ValueError(
        "`layer` must be named for a model in which no layer's output has the spatial axes of the input and "
        f"influences the target. Received: layer=None, input of shape {tuple(shape)}. "
        f"Candidates: {_listed(candidates)}."
    )


def _find(model: Any, layer: LayerLike, maps: Sequence[Capture]) -> list[Any]:
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


def described(layer: LayerLike) -> str:
    """A layer in words: what the user has called it, or its class and name."""
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
