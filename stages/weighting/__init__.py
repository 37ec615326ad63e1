"""How much each token of a rationale counts."""
