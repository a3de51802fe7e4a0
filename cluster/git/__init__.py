"""Code: the repository of a study, and the one that its user works in."""
