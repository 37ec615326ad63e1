"""How much of each rationale is given to the student at each epoch."""
