"""What decides and remembers: study state, ledger, queue, controller, reducer, nodes and git."""
