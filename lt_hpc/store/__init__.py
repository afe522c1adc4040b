"""The run folder: every path, atomic writes, manifests, tables."""
