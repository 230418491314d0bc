"""The engine for JAX."""
