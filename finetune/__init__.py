"""Load a base, adapt it, train the adapter, merge it: weights only."""
