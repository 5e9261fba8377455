"""Plots, one a module. Pure."""
