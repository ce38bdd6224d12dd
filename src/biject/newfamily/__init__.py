"""Help with a new family: draft its file from a checkpoint, then run the gates until they all pass."""
