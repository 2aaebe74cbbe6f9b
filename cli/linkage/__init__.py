"""Tables to join and to deduplicate: reading their texts, encoding, writing rows with what was found."""
