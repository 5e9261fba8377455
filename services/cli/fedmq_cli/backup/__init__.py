"""Backups of an alliance: copies of its records and blobs, and the check that the two agree."""
