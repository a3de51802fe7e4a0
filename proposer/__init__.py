"""What suggests: proposals, patches, and the optimiser that writes them."""
