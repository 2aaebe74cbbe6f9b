"""The teacher and the student: where they come from and how they are read as encoders."""
