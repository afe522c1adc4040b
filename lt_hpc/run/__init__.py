"""The spine of a run: its plan, what is done, what happened, what it costs."""
