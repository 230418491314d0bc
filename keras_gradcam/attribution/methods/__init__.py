"""Methods: how a score is explained, by formulas of gradients and by sampling."""
