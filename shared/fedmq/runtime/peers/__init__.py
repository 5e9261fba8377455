"""What an actor keeps of those that send it messages."""
