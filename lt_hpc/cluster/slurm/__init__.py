"""Slurm: its client commands, jobs through submitit."""
