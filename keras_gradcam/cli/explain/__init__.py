"""cli.explain."""
