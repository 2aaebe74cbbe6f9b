"""Tables of the user: opening, reading, and writing with added columns."""
