"""attribution.methods."""
