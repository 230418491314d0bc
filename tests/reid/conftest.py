from __future__ import annotations

import pytest
from retrieval_sets import net

from keras_gradcam import Explainer


@pytest.fixture(scope="session")
def model():
    return net()


@pytest.fixture(scope="session")
def explainer(model):
    return Explainer(model, methods="gradcam", batch_size=4)
