"""What a deployment in containers needs at its start: secrets of its servers, and accounts of its clients."""
