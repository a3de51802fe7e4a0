"""What is remembered: the ledger, calls that were paid, progress, and the store behind them."""
