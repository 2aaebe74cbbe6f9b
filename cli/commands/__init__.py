"""The subcommands of ``flipkd``, one file per command."""
