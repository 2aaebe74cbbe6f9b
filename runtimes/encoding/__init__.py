"""Texts → token ids → batches → unit vectors."""
