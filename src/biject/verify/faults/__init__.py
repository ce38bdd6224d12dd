"""Faults to plant, in copies of an export and in our own run: a verifier that cannot fail proves nothing."""
