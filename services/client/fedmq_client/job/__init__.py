"""One call of a trainer: what it receives, how it runs, and what is accepted of its result."""
