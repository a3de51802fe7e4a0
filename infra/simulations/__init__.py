"""Studies on paper: what they come to, and which pruner would have paid."""
