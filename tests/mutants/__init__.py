"""Mutants: our own model with one mistake in its code, which the verifier has to catch."""
