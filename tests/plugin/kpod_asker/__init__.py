"""A teacher that pays, without an endpoint: what the runner does for such stages is tested with it."""
