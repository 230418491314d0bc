"""Formulas: functions of activations and gradients that give maps, independent of any model.

Arrays are channels last with the batch first, ``(N, *space, channels)``, for any number of spatial axes (series,
pictures, volumes). NumPy arrays are computed with NumPy; tensors of the Keras backend stay tensors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...engine.base import Tensor
from ...errors import ArgumentError, as_numpy, check_numbers
from ...grids import upsample


class GradCAMResult(NamedTuple):
    """The three results of :func:`gradcam`; the guided ones are None without a guided gradient."""

    gradcam: np.ndarray
    guided_backprop: np.ndarray | None
    guided_gradcam: np.ndarray | None


def gradcam(conv_activations: Any, conv_gradients: Any, guided_backprop: Any = None) -> GradCAMResult:
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
    activations = _as_floating("conv_activations", conv_activations)
    gradients = _as_floating("conv_gradients", conv_gradients)
    if activations.ndim not in (3, 4, 5) or activations.shape != gradients.shape:
        raise ArgumentError(
            "conv_activations",
            "have one shape with `conv_gradients`, (h, w, channels) or (N, h, w, channels)",
            f"{activations.shape} and {gradients.shape}",
            ["both with a channel axis", "both from the same layer"],
        )
    single = activations.ndim == 3
    if single:
        activations, gradients = activations[None], gradients[None]
    maps = gradcam_map(activations, gradients)
    guided, weighted = None, None
    if guided_backprop is not None:
        guided = _as_floating("guided_backprop", guided_backprop)
        batched = guided[None] if single else guided
        if batched.ndim != activations.ndim or len(batched) != len(maps):
            raise ArgumentError(
                "guided_backprop",
                "be the gradient for the same pictures, channels last",
                f"{guided.shape} beside activations {activations.shape[single:]}",
                "(H, W, C) beside (h, w, channels), (N, H, W, C) beside (N, h, w, channels)",
            )
        weighted = guided_gradcam(batched, upsample(maps, batched.shape[1:-1]))
        weighted = weighted[0] if single else weighted
    return GradCAMResult(maps[0] if single else maps, guided, weighted)


def gradcam_map(activations: Tensor, gradients: Tensor) -> Tensor:
    """Computes Grad-CAM of a batch: max(0, sum_k mean_space(dY/dA_k) A_k).

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
    xp = array_namespace(activations)
    weights = xp.mean(gradients, axis=tuple(range(1, len(gradients.shape) - 1)), keepdims=True)
    return xp.maximum(xp.sum(weights * activations, axis=-1), 0)


def gradcam_plus_plus_map(activations: Tensor, gradients: Tensor) -> Tensor:
    r"""Computes Grad-CAM++ of a batch: positive gradients weighted so that several instances of an object count alike.

    .. math::
        a_{ijk} = \frac{g_{ijk}^2}{2 g_{ijk}^2 + g_{ijk}^3 \sum_{ab} A_{abk}} \qquad
        w_k = \sum_{ij} a_{ijk} \max(0, g_{ijk}) \qquad L = \max\Bigl(0, \sum_k w_k A_k\Bigr)

    The paper derives the weights for a score exp(Y), whose derivatives are those of Y times powers of g; g is the
    gradient of Y, the score before the softmax, and the factor exp(Y) that all w_k of a picture share is left out. It
    assumes activations >= 0, as after a ReLU. Where those of a channel sum to less than zero the denominator would
    cross zero; the sum counts as zero there.

    Args:
        activations: Feature maps, ``(N, *space, channels)``.
        gradients: Ordinary gradients of the score with respect to them, same shape.

    Returns:
        ``(N, *space)``, raw and >= 0.

    Example:
        >>> import numpy as np
        >>> gradcam_plus_plus_map(np.ones((1, 1, 2, 1)), np.array([[[[1.0], [0.0]]]]))  # a = 1 / (2 + 2)
        array([[[0.25, 0.25]]])

    Source: Chattopadhay et al., Grad-CAM++, WACV 2018, https://arxiv.org/abs/1710.11063.
    """
    xp, space = array_namespace(activations), tuple(range(1, len(gradients.shape) - 1))
    # Divided by g^2: where that is zero so is the weight, and nothing small is squared or cubed.
    positive = xp.maximum(gradients, 0)
    below = 2 + positive * xp.maximum(xp.sum(activations, axis=space, keepdims=True), 0)
    weights = xp.sum(positive / below, axis=space, keepdims=True)
    return xp.maximum(xp.sum(weights * activations, axis=-1), 0)


def hirescam_map(activations: Tensor, gradients: Tensor) -> Tensor:
    r"""Computes HiResCAM of a batch: :math:`\max(0, \sum_k g_{ijk} A_{ijk})`, each cell with its own gradient.

    Args:
        activations: Feature maps, ``(N, *space, channels)``.
        gradients: Ordinary gradients of the score with respect to them, same shape.

    Returns:
        ``(N, *space)``, raw and >= 0. Where a mean over space and a dense layer follow, 1 / cells of the score's parts,
        and equal to Grad-CAM.

    Example:
        >>> import numpy as np
        >>> hirescam_map(np.array([[[[1.0], [2.0]]]]), np.array([[[[3.0], [-1.0]]]]))
        array([[[3., 0.]]])

    Source: Draelos and Carin, Use HiResCAM instead of Grad-CAM, 2020, https://arxiv.org/abs/2011.08891.
    """
    xp = array_namespace(activations)
    return xp.maximum(xp.sum(gradients * activations, axis=-1), 0)


def xgradcam_map(activations: Tensor, gradients: Tensor) -> Tensor:
    r"""Computes XGrad-CAM of a batch: gradients averaged with the activations as weights.

    .. math:: w_k = \sum_{ij} \frac{A_{ijk}}{\sum_{ab} A_{abk}} g_{ijk} \qquad L = \max\Bigl(0, \sum_k w_k A_k\Bigr)

    The paper assumes activations >= 0, as after a ReLU. Others are taken by their size, |A|, in the weights, which for
    channels >= 0 or <= 0 is the same, and which stay between the smallest and the largest gradient where the sum of the
    activations is near zero. A channel that is zero everywhere has no weight.

    Args:
        activations: Feature maps, ``(N, *space, channels)``.
        gradients: Ordinary gradients of the score with respect to them, same shape.

    Returns:
        ``(N, *space)``, raw and >= 0.

    Example:
        >>> import numpy as np
        >>> xgradcam_map(np.array([[[[1.0], [3.0]]]]), np.array([[[[2.0], [0.0]]]]))  # w = 2 / 4
        array([[[0.5, 1.5]]])

    Source: Fu et al., Axiom-based Grad-CAM, BMVC 2020, https://arxiv.org/abs/2008.02312.
    """
    xp, space = array_namespace(activations), tuple(range(1, len(gradients.shape) - 1))
    sizes = xp.abs(activations)
    sums = xp.sum(sizes, axis=space, keepdims=True)
    present = sums != 0
    mean = xp.sum(sizes * gradients, axis=space, keepdims=True) / xp.where(present, sums, xp.ones_like(sums))
    weights = xp.where(present, mean, xp.zeros_like(mean))
    return xp.maximum(xp.sum(weights * activations, axis=-1), 0)


def layercam_map(activations: Tensor, gradients: Tensor) -> Tensor:
    r"""Computes LayerCAM of a batch: :math:`\max(0, \sum_k \max(0, g_{ijk}) A_{ijk})`, fine enough for early layers.

    Args:
        activations: Feature maps, ``(N, *space, channels)``.
        gradients: Ordinary gradients of the score with respect to them, same shape.

    Returns:
        ``(N, *space)``, raw and >= 0.

    Example:
        >>> import numpy as np
        >>> layercam_map(np.ones((1, 1, 1, 2)), np.array([[[[2.0, -5.0]]]]))
        array([[[2.]]])

    Source: Jiang et al., LayerCAM, IEEE Transactions on Image Processing 2021, https://doi.org/10.1109/TIP.2021.3089943.
    """
    xp = array_namespace(activations)
    return xp.maximum(xp.sum(xp.maximum(gradients, 0) * activations, axis=-1), 0)


def smallest_activation(activations: Tensor, gradients: Tensor) -> Tensor:
    """Returns the smallest activation of each cell, ``(N, *space)``: below zero where formulas for ReLUs are not meant.

    Args:
        activations: Feature maps, ``(N, *space, channels)``.
        gradients: Not used; it makes this a formula as the others are.
    """
    return array_namespace(activations).min(activations, axis=-1)


#: The formulas of activations and gradients, by the names of the methods.
CAM_FORMULAS = {
    "gradcam": gradcam_map,
    "gradcam_plus_plus": gradcam_plus_plus_map,
    "hirescam": hirescam_map,
    "xgradcam": xgradcam_map,
    "layercam": layercam_map,
}


def saliency_map(gradients: Tensor) -> Tensor:
    r"""Computes saliency of a batch: the largest :math:`|\partial Y / \partial X|` over the channels.

    Args:
        gradients: Ordinary gradients with respect to the input, ``(N, *size, channels)``.

    Returns:
        ``(N, *size)``, >= 0.

    Example:
        >>> import numpy as np
        >>> saliency_map(np.array([[[[1.0, -3.0, 2.0]]]]))
        array([[[3.]]])

    Source: Simonyan et al., Deep Inside Convolutional Networks, ICLR workshop 2014, https://arxiv.org/abs/1312.6034.
    """
    xp = array_namespace(gradients)
    return xp.max(xp.abs(gradients), axis=-1)


def guided_gradcam(guided_backprop: Tensor, heatmap: Tensor) -> Tensor:
    """Computes guided Grad-CAM: the guided gradient times the Grad-CAM map at the same size.

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


def array_namespace(array: Tensor) -> Any:
    """Returns NumPy for its arrays, and ``keras.ops`` for tensors."""
    if isinstance(array, np.ndarray):
        return np
    from keras import ops

    return ops


def _as_floating(name: str, value: Any) -> np.ndarray:
    """Returns an array of any framework as NumPy, floating point."""
    try:
        array = as_numpy(value)
    except ValueError:  # rows of unequal length
        return check_numbers(name, value)
    if np.issubdtype(array.dtype, np.floating):
        return array
    return check_numbers(name, array).astype(np.float32)
