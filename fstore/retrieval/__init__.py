"""Read: point-in-time training frames and online features."""
