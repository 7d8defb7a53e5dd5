"""What one person's data may change in a model, and what of that has been spent."""
