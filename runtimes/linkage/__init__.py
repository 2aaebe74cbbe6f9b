"""Matching rows of two tables, and groups of rows of one."""
