"""The decision, and what it stands on. Pure: frozen values in, frozen values out, no I/O."""
