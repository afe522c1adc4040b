"""The spine of a run: its plan, the kinds of its stages, what is done, what happened, what it costs."""
