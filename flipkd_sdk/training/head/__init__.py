"""Training of the pair head."""
