"""The recipes that ship with kpod."""
