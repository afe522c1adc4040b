"""Benchmarks of models: what lm-evaluation-harness asks, and what it says of the answers."""
