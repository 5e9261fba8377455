"""Stands in for `fedn.utils.helpers`."""
