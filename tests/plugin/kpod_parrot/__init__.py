"""A student that says again what it was asked, and its evaluation."""
