"""Studies on paper: the real decisions against an imaginary world, on a clock of its own.

Replaces only what surrounds the core: slots, nodes, proposers and git. Pure: a simulation of the
same landscape, plan and seed is the same to the last event.
"""
