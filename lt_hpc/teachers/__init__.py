"""Who writes thoughts for the warm start: a model behind an endpoint, or one that is run here."""
