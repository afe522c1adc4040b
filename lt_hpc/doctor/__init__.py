"""lt-hpc doctor: whether a plan can end where it is to run, judged before anything is submitted."""
