"""The engine for the TensorFlow backend. Only modules of this folder import TensorFlow; this one does not."""
