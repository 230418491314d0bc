"""Where the cells of a feature map lie on the input."""

from __future__ import annotations

from collections.abc import Sequence


def token_grid(shape: Sequence[int | None], size: Sequence[int]) -> tuple[int, ...] | None:
    """The grid that the tokens of a vision transformer form, or None if they form none.

    Tokens before the grid (a class token, register tokens) are allowed, up to eight; the grid has the input's
    proportions.

    Args:
        shape: Output shape of a layer, ``(batch, tokens, channels)``.
        size: Spatial size of the input, ``(H, W)``.

    Example:
        >>> token_grid((None, 197, 768), (224, 224))
        (14, 14)
        >>> token_grid((None, 130, 64), (256, 128))
        (16, 8)
    """
    if len(shape) != 3 or len(size) != 2 or shape[1] is None or None in size:
        return None
    for extra in range(min(9, shape[1])):
        patches = shape[1] - extra
        for height in range(1, patches + 1):
            width, rest = divmod(patches, height)
            if rest == 0 and min(height, width) > 1 and height * size[1] == width * size[0]:
                return height, width
    return None
