"""Learning from latent thoughts by EM, on a laptop or a Slurm cluster."""

__version__ = "0.1.0"
