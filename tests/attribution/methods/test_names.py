"""Methods by name, and those with options of their own."""

from __future__ import annotations

import keras
import pytest

from keras_gradcam import Explainer, IntegratedGradients, SmoothGrad
from keras_gradcam.attribution.methods.names import CAMS, INPUT_MAPS, METHODS, TITLES, method_names


@pytest.mark.parametrize("methods", [(), "gradcm", ["gradcam", "smooth"], [""], 5, None, ["gradcam", SmoothGrad], [3]])
def test_unknown_method_lists_the_methods(methods):
    with pytest.raises(ValueError, match=r"`methods`.*Candidates: gradcam, .*guided_backprop, .*integrated_gradients"):
        Explainer(keras.Sequential([keras.layers.Dense(2)]), methods=methods)


def test_methods_come_by_name_or_as_objects_each_once():
    assert method_names("gradcam") == ("gradcam",)
    assert method_names(SmoothGrad(samples=3)) == ("smoothgrad",)
    both = ["saliency", IntegratedGradients(steps=8), "gradcam", "saliency"]
    assert method_names(both) == method_names(iter(both)) == ("saliency", "integrated_gradients", "gradcam")
    for twice in ([SmoothGrad(), "smoothgrad"], [SmoothGrad(samples=2), SmoothGrad(samples=3)]):
        with pytest.raises(ValueError, match="`methods` must hold 'smoothgrad' once"):
            method_names(twice)


def test_every_method_has_a_title():
    assert tuple(TITLES) == METHODS == (*CAMS, *INPUT_MAPS)
