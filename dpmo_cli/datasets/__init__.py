"""Readers of the native formats of crowd datasets."""
