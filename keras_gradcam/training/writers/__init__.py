"""Writers: where the results of an epoch go. One module per destination."""
