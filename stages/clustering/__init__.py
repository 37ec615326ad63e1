"""Which questions belong together."""
