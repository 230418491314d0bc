"""The engine for the PyTorch backend. Only modules of this folder import PyTorch; this one does not."""
