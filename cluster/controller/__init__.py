"""Performs what was decided, and tells the ledger what came of it."""
