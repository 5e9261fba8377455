"""What an evaluator without a test set publishes. Imports nothing: worker processes begin with it."""

NO_TEST_SET = "the package states no test set"
"""Begins the reason of an evaluator that gives no score, as its package has nothing to score on."""
