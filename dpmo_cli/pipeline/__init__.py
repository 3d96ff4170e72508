"""Runs over datasets: plan, resume, shards, progress and the run record."""
