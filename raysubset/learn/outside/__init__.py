"""People's own models and datasets, read as they are: what `raysubset.select` scores."""
