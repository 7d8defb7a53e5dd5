"""A model in, estimates out, a decision at the end."""
