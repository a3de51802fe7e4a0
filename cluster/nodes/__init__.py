"""Machines: their Ray, their workers, how they join and how they leave."""
