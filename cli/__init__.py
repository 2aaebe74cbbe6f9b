"""The ``flipkd`` command, one file per command."""
