"""The files of a matcher directory that every part reads: manifest and reference vectors."""
