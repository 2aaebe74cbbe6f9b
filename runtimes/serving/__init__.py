"""Matchers inside services and table engines."""
