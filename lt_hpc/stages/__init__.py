"""What one job does: prepare, sample, merge, train, evaluate."""
