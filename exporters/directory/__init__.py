"""The matcher directory: its content, how it is written, and its model card."""
