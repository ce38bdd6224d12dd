"""One file per level: each takes a `Subject` and gives checks, or says why it cannot be asked."""
