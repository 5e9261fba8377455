"""The command's verbs, a file for each group of them."""
