"""Export: run directory → encoder path → graph → variants → verified matcher directory (needs the ``export`` extra)."""
