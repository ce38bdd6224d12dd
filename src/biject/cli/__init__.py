"""The command line: one file per command, imported when it is asked for; the only place that prints."""
