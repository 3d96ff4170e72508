"""Pure NumPy / SciPy geometry: points, discs, tiles, windows and run lengths."""
