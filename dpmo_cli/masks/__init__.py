"""The method: from points to chosen, clipped and owned masks."""
