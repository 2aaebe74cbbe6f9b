"""Training: pairs and texts → teacher → student → run directory (needs the ``train`` extra)."""
