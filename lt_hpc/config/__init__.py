"""The configuration: its tree, how it is read, what is checked, what of it decides a result."""
