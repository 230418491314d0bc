"""Picture files: found, read, decoded, and made into what a model takes."""
