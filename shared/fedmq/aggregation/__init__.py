"""The exact, order-independent weighted mean and the server optimizers. Pure arithmetic."""
