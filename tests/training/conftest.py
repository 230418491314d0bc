"""Data that several files train with."""

from __future__ import annotations

import numpy as np
import pytest
import reid_models
from trainings import N


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.random((N, 16, 12, 3), dtype=np.float32), np.arange(N) % 3


@pytest.fixture
def pictures():
    return np.random.default_rng(0).random((reid_models.N, 20, 12, 3), dtype=np.float32)
