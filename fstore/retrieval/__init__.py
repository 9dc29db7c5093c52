"""Read features: point-in-time training frames, and online values for serving."""
