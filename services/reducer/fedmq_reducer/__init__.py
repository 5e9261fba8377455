"""The one coordinator of an alliance. It alone writes the records, and only while it holds the lease."""
