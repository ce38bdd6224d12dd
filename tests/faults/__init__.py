"""Faults that must be caught."""
