"""The TensorBoard tab "Grad-CAM": what is stored, how it is written, how it is served, and the page itself.

``metadata`` defines what is stored; ``summary`` writes it, ``reader`` and ``server`` read it, ``wire`` packs the binary
answers, ``loader`` is what TensorBoard loads. Nothing here imports Keras, TensorFlow or the rest of the package.
"""
