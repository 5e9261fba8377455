"""The checks of `fedmq doctor`, by what they look at. Each returns what works, or raises an error with its remedy."""
