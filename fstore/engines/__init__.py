"""Where features are computed."""
