"""``keras-gradcam explain``: its options, the run over all pictures, and the files that it writes."""
