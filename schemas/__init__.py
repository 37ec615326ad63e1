"""JSON Schemas, generated from the Config classes of the stages (kpod schema --write)."""
