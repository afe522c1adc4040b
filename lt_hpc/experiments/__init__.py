"""Questions that many runs answer together: their arms, seeds and tables."""
