"""Record stores: the port in `base`, one adapter per module."""
