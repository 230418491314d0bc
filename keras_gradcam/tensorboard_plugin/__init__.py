"""The TensorBoard tab "Grad-CAM": what is stored, how it is written, how it is served, and the page itself.

``metadata`` is the contract; ``summary`` writes by it, ``reading`` and ``app`` read by it, ``plugin`` is what
TensorBoard loads. Nothing here imports Keras or TensorFlow.
"""
