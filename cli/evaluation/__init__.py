"""Comparison of matchers on labelled pairs, and its report."""
