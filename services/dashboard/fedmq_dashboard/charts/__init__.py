"""Plots that more than one page could show, one a file. Pure."""
