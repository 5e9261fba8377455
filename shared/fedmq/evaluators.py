"""What a client publishes that can score no model at all. Imports nothing: worker processes begin with it."""

NO_TEST_SET = "the package states no test set"
"""Begins the reason of an evaluator that gives no score, as its package has nothing to score on."""
NO_VALIDATE = "the trainer has no validate(weights, task), so it scores no model: write it"
"""The reason of a client whose trainer can give no score. A client reports it once a session, not of each model."""
