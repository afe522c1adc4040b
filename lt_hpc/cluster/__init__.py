"""Where and when: the plan (pure), back-ends, signals, rendezvous."""
