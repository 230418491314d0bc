"""engine.tensorflow."""
