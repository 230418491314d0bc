"""A forward pass as a graph of operations that no backend owns, and what follows from such a graph."""
