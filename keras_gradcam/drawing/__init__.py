"""Draws pictures from arrays and words: overlays, panels, overviews, filmstrips."""
