"""Names on disk ↔ names in memory: rules, their expansion into specs, and the plan for one file."""
