"""From a photo without annotations to prompts: the localiser."""
