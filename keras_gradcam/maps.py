"""Formulas: activations and gradients in, maps out. No model and no input or output is known here.

Arrays are channels last with the batch first, ``(N, *space, channels)``, for any number of spatial axes (series,
pictures, volumes). NumPy arrays are computed with NumPy; tensors of the Keras backend stay tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .engine.base import Tensor


class GradCAM(NamedTuple):
    """The three results of :func:`gradcam`; the guided ones are None without a guided gradient."""

    gradcam: np.ndarray
    guided_backprop: np.ndarray | None
    guided_gradcam: np.ndarray | None


def gradcam(conv_activations: Any, conv_gradients: Any, guided_backprop: Any = None) -> GradCAM:
    r"""Computes Grad-CAM, and guided Grad-CAM where a guided gradient is given, from arrays of any framework.

    .. math::
        a_k = \frac{1}{hw} \sum_{ij} \frac{\partial Y}{\partial A_{ijk}} \qquad
        L_{ij} = \max\Bigl(0, \sum_k a_k A_{ijk}\Bigr) \qquad
        \text{guided} = \frac{\partial Y}{\partial X}\Big|_{\text{guided}} \cdot \text{upsample}(L)

    Values are raw: nothing is normalised, a map may be zero everywhere, and the arguments are left as they are.

    Args:
        conv_activations: Feature map A, ``(h, w, channels)`` for one picture, ``(N, h, w, channels)`` for a batch
            or ``(N, d, h, w, channels)`` for a batch of volumes.
        conv_gradients: Ordinary gradient dY/dA of the explained score, same shape.
        guided_backprop: Guided gradient dY/dX with respect to the picture, ``(H, W, C)`` or ``(N, H, W, C)``.

    Returns:
        A named tuple of float arrays: ``gradcam`` (h, w) or (N, h, w), >= 0, on the grid of the feature map;
        ``guided_backprop`` as given; ``guided_gradcam`` shaped like it.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        >>> import numpy as np
        >>> activations = np.array([[[1.0, 0.0], [2.0, 1.0]]])  # 1 x 2 cells, 2 channels
        >>> gradients = np.array([[[1.0, -1.0], [3.0, -1.0]]])  # means over space: 2 and -1
        >>> gradcam(activations, gradients).gradcam
        array([[2., 3.]])

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, https://arxiv.org/abs/1610.02391.
    """
    activations, gradients = _as_numpy(conv_activations), _as_numpy(conv_gradients)
    if activations.ndim not in (3, 4, 5) or activations.shape != gradients.shape:
        raise ValueError(
            "`conv_activations` and `conv_gradients` must have one shape, (h, w, channels) or (N, h, w, channels). "
            f"Received: {activations.shape} and {gradients.shape}. "
            "Candidates: add a channel axis, or take both from the same layer."
        )
    single = activations.ndim == 3
    if single:
        activations, gradients = activations[None], gradients[None]
    maps = gradcam_map(activations, gradients)
    guided, weighted = None, None
    if guided_backprop is not None:
        guided = _as_numpy(guided_backprop)
        batched = guided[None] if single else guided
        if batched.ndim != activations.ndim or len(batched) != len(maps):
            raise ValueError(
                "`guided_backprop` must be the gradient for the same pictures, channels last. "
                f"Received: {guided.shape} beside activations {_as_numpy(conv_activations).shape}. "
                "Candidates: (H, W, C) beside (h, w, channels), (N, H, W, C) beside (N, h, w, channels)."
            )
        weighted = guided_gradcam(batched, upsample(maps, batched.shape[1:-1]))
        weighted = weighted[0] if single else weighted
    return GradCAM(maps[0] if single else maps, guided, weighted)


def gradcam_map(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM of a batch: max(0, sum_k mean_space(dY/dA_k) A_k).

    Args:
        activations: Feature maps, ``(N, *space, channels)``.
        gradients: Ordinary gradients of the score with respect to them, same shape.

    Returns:
        ``(N, *space)``, raw and >= 0.

    Example:
        >>> import numpy as np
        >>> float(gradcam_map(np.ones((2, 4, 4, 8)), np.full((2, 4, 4, 8), 0.5)).max())
        4.0

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, https://arxiv.org/abs/1610.02391.
    """
    xp = _namespace(activations)
    weights = xp.mean(gradients, axis=tuple(range(1, len(gradients.shape) - 1)), keepdims=True)
    return xp.maximum(xp.sum(weights * activations, axis=-1), 0)


def guided_gradcam(guided_backprop: Tensor, heatmap: Tensor) -> Tensor:
    """Guided Grad-CAM: the guided gradient times the Grad-CAM map at the same size.

    Args:
        guided_backprop: Guided gradients with respect to the input, ``(N, *size, channels)``, or ``(N, *size)`` for an
            input without a channel axis.
        heatmap: Grad-CAM upsampled to the input, ``(N, *size)``.

    Returns:
        Shaped like ``guided_backprop``, raw and signed.

    Example:
        >>> import numpy as np
        >>> guided_gradcam(np.full((1, 2, 2, 1), -3.0), np.full((1, 2, 2), 2.0)).ravel()
        array([-6., -6., -6., -6.])

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, https://arxiv.org/abs/1610.02391.
    """
    return guided_backprop * (heatmap[..., None] if guided_backprop.ndim > heatmap.ndim else heatmap)


def upsample(maps: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resizes maps linearly along each spatial axis (bilinearly for pictures), half-pixel centres.

    Args:
        maps: ``(N, *space)``.
        size: The new extent of each spatial axis.

    Returns:
        ``(N, *size)`` in the dtype of ``maps``, never outside the range of its values.

    Example:
        >>> import numpy as np
        >>> upsample(np.array([[0.0, 4.0]]), (4,))
        array([[0., 1., 3., 4.]])
    """
    for axis, length in enumerate(size, start=1):
        matrix = _linear_interpolation(maps.shape[axis], int(length)).astype(maps.dtype)
        maps = np.moveaxis(np.tensordot(maps, matrix, axes=([axis], [1])), -1, axis)
    return np.ascontiguousarray(maps)


def _linear_interpolation(old: int, new: int) -> np.ndarray:
    """The (new, old) matrix whose rows are the weights of old cells in new ones."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    below = np.floor(position).astype(int)
    above = np.minimum(below + 1, old - 1)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), below), 1 - (position - below))
    np.add.at(matrix, (np.arange(new), above), position - below)
    return matrix


def _namespace(array: Tensor) -> Any:
    if isinstance(array, np.ndarray):
        return np
    from keras import ops

    return ops


def _as_numpy(array: Any) -> np.ndarray:
    """A NumPy view or copy of an array of any framework, floating point."""
    if hasattr(array, "detach"):  # a torch tensor that may need gradients or live on an accelerator
        array = array.detach().cpu()
    array = np.asarray(array)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float32)
