"""Vocabulary trimming: fewer tokens, smaller embedding."""
