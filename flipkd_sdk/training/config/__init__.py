"""Training options: schema, presets, TOML files."""
