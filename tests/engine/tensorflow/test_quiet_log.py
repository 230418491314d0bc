"""TensorFlow's log is silent for as long as a context lasts, unless the user wants to see it."""

from __future__ import annotations

import os

import pytest

from keras_gradcam.engine.tensorflow.quiet_log import is_quiet, quiet_log

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def test_the_log_is_silent_as_long_as_the_context_lasts(monkeypatch):
    monkeypatch.delenv(LEVEL, raising=False)
    assert not is_quiet()
    with quiet_log():
        assert is_quiet()
        assert os.environ[LEVEL] == "3"
    assert LEVEL not in os.environ
    with pytest.raises(ZeroDivisionError), quiet_log():
        raise ZeroDivisionError
    assert LEVEL not in os.environ


@pytest.mark.parametrize(("level", "quiet"), [("0", False), ("3", True)])
def test_the_users_own_level_stays(monkeypatch, level, quiet):
    monkeypatch.setenv(LEVEL, level)
    with quiet_log():
        assert (os.environ[LEVEL], is_quiet()) == (level, quiet)
    assert os.environ[LEVEL] == level
