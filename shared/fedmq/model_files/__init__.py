"""Model files of other tools, and the names that their tensors have there."""
