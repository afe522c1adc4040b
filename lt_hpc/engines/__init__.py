"""Who samples and scores: one protocol, one file per engine."""
