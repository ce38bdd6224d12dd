"""Any architecture of `transformers`, trained and exported by it: what `backend="hf"` gives."""
