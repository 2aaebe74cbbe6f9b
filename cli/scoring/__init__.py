"""Scoring of tables: the loop, its engines, and the journal of an unfinished run."""
