"""The columns of numbers: their names are the contract of writer, reader and tab."""

from __future__ import annotations

from keras_gradcam.tensorboard_plugin.columns import COLUMNS


def test_columns_are_distinct_words_for_tags():
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert all(column.isidentifier() and column.islower() for column in COLUMNS)


def test_what_the_model_predicted_stands_before_what_is_known_of_the_map():
    assert COLUMNS[:5] == ("score", "probability", "predicted", "explained", "confidence")
