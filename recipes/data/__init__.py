"""Company data: read, checked, and split into parts without leakage."""
