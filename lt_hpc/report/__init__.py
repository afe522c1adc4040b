"""What a run found, for people and programs: `python -m lt_hpc.report RUN_DIR`."""
