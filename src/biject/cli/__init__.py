"""The command line: one file per command, imported when it is run; the only place that prints."""
