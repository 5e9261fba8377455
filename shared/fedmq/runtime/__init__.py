"""Actors at work: carries out what pure cores ask for, in order, until it succeeds."""
