"""lt-hpc rehearse: a small copy of a configuration, preempted in every stage, against an undisturbed one."""
