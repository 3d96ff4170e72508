"""A finished run in the formats that people train with: one file per format, and their table."""
