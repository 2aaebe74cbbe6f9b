"""Tables of texts: bytes → lines → records."""
