"""Tables of the user: opened, read, and written with added columns."""
