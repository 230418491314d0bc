"""Explains what a model looks at: targets, layers, methods, and the explanations they give."""
