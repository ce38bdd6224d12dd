"""Decode steps in C: compiled where they run, once, and kept in the cache folder.

torch's own products of one row reach half of the memory bandwidth at best (docs/benchmarks.md); these
reach it nearly. They are not bit-equal to Hugging Face's and are taken only where the caller says so.
"""
