"""A plug-in for tests: a stage that several processes run together."""
