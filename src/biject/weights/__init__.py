"""Names on disk ↔ names in memory: rules, their expansion into slots, and the plan for one file."""
