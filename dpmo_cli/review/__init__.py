"""The review: decisions of people on masks, what becomes of them, and what they tell of a run."""
