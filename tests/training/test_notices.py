"""A warning never ends a training."""

from __future__ import annotations

import logging
import warnings

import pytest

from keras_gradcam.training.notices import warn


def test_a_warning_names_the_line_of_the_caller(recwarn):
    def said():
        warn("The disk is full.", RuntimeWarning)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said()
    (one,) = caught
    assert (one.category, str(one.message), one.filename) == (RuntimeWarning, "The disk is full.", __file__)


@pytest.mark.expects_logged_warnings
def test_where_warnings_are_errors_it_is_logged(caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, "keras_gradcam"):
        warnings.simplefilter("error")
        warn("The disk is full.", RuntimeWarning)
    assert caplog.messages == ["RuntimeWarning: The disk is full."]
