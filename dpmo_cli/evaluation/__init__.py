"""Metrics: predictions against truth."""
