"""The M-step's machinery: packed batches, the DeepSpeed trainer, checkpoints, the log."""
