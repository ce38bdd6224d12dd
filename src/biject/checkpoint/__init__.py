"""Checkpoint folders on disk, read without copies and written so that nothing is lost: import the modules."""
