"""Record stores: the port in `base`, one adapter a file."""
