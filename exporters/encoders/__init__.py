"""What is exported: the encoder path of a student, or a whole encoder."""
