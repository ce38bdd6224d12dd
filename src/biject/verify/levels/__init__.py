"""One file per level: each takes a `Subject` and returns checks, or raises `NothingToCompare`."""
