"""Tables of colours are matplotlib's."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from keras_gradcam.drawing.colormaps import color_table


@pytest.mark.parametrize("name", ["inferno", "jet", "gray"])
def test_a_table_holds_matplotlibs_colours(name):
    table = color_table(name)
    assert table.dtype == np.uint8
    for index in (0, 100, 255):
        expected = np.array(matplotlib.colormaps[name](index / 255)[:3]) * 255
        np.testing.assert_allclose(table[index], expected, atol=0.5)


def test_a_table_cannot_be_changed_by_who_gets_it():
    with pytest.raises(ValueError, match="read-only"):
        color_table("inferno")[0] = 0


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"`colormap` must be one of matplotlib's.*Received: 'infernal'.*Candidates"):
        color_table("infernal")
