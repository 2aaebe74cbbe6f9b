"""A smaller LLM to start from."""
