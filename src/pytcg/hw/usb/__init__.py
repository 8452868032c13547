"""USB host controllers."""
