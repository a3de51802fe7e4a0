"""What is to be done now: decisions, as commands. Pure."""
