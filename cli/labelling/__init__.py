"""Labelling of the pairs that teach a matcher most."""
