"""What the ports of all roles share: the health page, the metrics, and who is let in."""
