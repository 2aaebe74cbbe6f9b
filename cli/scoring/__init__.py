"""Scoring of tables: loop, engines, and journal of an unfinished run."""
