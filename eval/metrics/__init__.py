"""The figures: each module has plain functions, and wraps them as one `evaluate.Metric`."""
