"""dpmo: turn the head points of crowd datasets into instance masks."""

__version__ = "0.1.0"
