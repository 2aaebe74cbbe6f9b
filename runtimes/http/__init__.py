"""The HTTP service of ``flipkd serve``."""
