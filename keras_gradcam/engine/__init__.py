"""Engines: the only code that runs and differentiates a model, one folder per Keras backend.

:mod:`keras_gradcam.engine.base` is the contract that every engine keeps.
"""

from .backends import current_engine, quiet_log, quiet_start

__all__ = ["current_engine", "quiet_log", "quiet_start"]
