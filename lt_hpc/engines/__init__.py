"""Who samples and scores: one protocol, one file an engine."""
