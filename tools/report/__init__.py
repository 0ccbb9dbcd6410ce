"""`skipc report`: a bundle and what was measured of it, as one page."""
