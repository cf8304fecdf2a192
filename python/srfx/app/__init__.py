"""The page of ``srfx explore``: what it shows, how it is drawn, served, laid out."""
