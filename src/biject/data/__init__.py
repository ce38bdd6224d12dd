"""Rows to samples of ids and labels: data sets read, checked, tokenized, split and collated."""
