"""Who writes the rationales."""
