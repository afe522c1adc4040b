"""What goes in: document sources, the built-in corpus, token corpora."""
