"""One process of a training on several writes."""

from __future__ import annotations

import jax
import pytest

from keras_gradcam.engine.jax.processes import is_first_process


def test_a_single_process_writes():
    assert is_first_process()


@pytest.mark.parametrize(("index", "first"), [(0, True), (1, False)])
def test_process_0_of_several_writes(monkeypatch, index, first):
    monkeypatch.setattr(jax, "process_index", lambda: index)
    assert is_first_process() is first
