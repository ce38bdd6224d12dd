"""Level `faults`: damaged copies of an export, each of which has to be caught."""
