"""Where jobs run: worker processes, or the caller's own thread."""
