"""srfx."""
