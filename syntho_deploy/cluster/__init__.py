"""What touches a cluster."""
