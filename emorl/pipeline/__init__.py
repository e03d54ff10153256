"""Configuration, runs and their names, the plan, costs, provenance: what ties the rooms below into steps."""
