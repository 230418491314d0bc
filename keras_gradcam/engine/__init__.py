"""Engines: the only code that runs and differentiates a model, one module per Keras backend."""

from __future__ import annotations

from .base import Engine


def current_engine() -> Engine:
    """Returns the engine for the Keras backend in use.

    Raises:
        NotImplementedError: If there is no engine for that backend.
    """
    import keras

    backend = keras.config.backend()
    if backend == "tensorflow":
        from .tensorflow.engine import TensorFlowEngine

        return TensorFlowEngine()
    raise NotImplementedError(
        f"The Keras backend must be one that keras_gradcam has an engine for. Received: {backend!r}. "
        "Candidates: 'tensorflow' (set KERAS_BACKEND=tensorflow before keras is imported)."
    )
