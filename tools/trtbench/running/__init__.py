"""What is run and timed: inputs, loading, the loop, switches, energy, phases, layers."""
