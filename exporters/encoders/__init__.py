"""Encoders to export: the encoder path of a student, or a whole encoder."""
