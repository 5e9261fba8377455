"""Blob stores: the port in `base`, one adapter per module, and transfers over presigned URLs."""
