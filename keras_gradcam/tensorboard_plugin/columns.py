"""The columns of numbers that are logged for every probe and epoch, and shown as curves."""

from __future__ import annotations

#: The numbers of a probe at an epoch, NaN for a missing value: score and probability of the explained class, the
#: predicted and the explained class, the confidence (probability of the predicted class), and statistics of the map.
#: Writers store them in this order; readers take the names from the run, since another version may have others.
COLUMNS = (
    "score",
    "probability",
    "predicted",
    "explained",
    "confidence",
    "similarity_previous",
    "similarity_first",
    "center_shift",
    "focus",
    "mass",
    "mass_inside",
    "pointing_game",
)
