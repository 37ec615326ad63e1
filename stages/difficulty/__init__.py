"""How hard each step of a rationale is."""
