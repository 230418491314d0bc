"""What the results of pictures are called."""

from __future__ import annotations

from keras_gradcam.cli.explain.result_names import result_names


def test_names():
    paths = ["/p/a/x.jpg", "/p/b/x.jpg", "/p/b/X.png", "/p/b/y.jpg", "/q/b/x.jpg"]
    assert result_names(paths, {}) == ["a_x", "b_x", "b_X-2", "y", "b_x-3"]


def test_names_of_before_stay():
    assert result_names(["/a/x.jpg", "/b/x.jpg"], {"/b/x.jpg": "x"}) == ["a_x", "x"]
    assert result_names(["/a/x.jpg"], {"/b/x.jpg": "x"}) == ["a_x"]
    assert result_names(["/a/x.jpg"], {"/b/x.jpg": "x", "/c/a_x.jpg": "a_x"}) == ["a_x-2"]
