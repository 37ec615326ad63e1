"""A second plug-in for tests: pupils that learn from a plan, and their exam, for settings that agree and for sweeps."""
