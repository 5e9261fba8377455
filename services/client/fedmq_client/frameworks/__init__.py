"""Trainers for machine learning frameworks. Each module imports its framework; nothing else does."""
