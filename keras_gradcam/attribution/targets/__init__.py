"""attribution.targets."""
