"""The processes of a study, each put together and started here."""
