"""Engines: the only code that runs and differentiates a model, one folder per Keras backend.

:mod:`keras_gradcam.engine.base` is the contract that every engine keeps.
"""

from .backends import BACKENDS, current_engine, quiet_log, quiet_start, use_backend

__all__ = ["BACKENDS", "current_engine", "quiet_log", "quiet_start", "use_backend"]
