"""What there is to tell of a study, as records and in words."""
