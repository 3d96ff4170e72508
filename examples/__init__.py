"""Drawn crowds with exact masks: they serve the demo, the end-to-end tests and the training."""
