"""The SAM engine: weights, models and windowed answers to point prompts."""
