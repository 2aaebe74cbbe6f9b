"""Candidates and exact search by cosine."""
