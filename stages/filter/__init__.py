"""Which rationales are worth learning from."""
