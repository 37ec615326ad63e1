"""A plug-in whose module does not load."""

raise RuntimeError("this plug-in is broken on purpose")
