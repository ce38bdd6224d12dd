"""Pages about runs: read from a run's folder, without torch; written as HTML that needs no network."""
