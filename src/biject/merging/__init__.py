"""Merging an adapter into its base with a receipt: what merging changed, measured on samples."""
