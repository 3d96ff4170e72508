"""The `dpmo` command: its sub-commands, and how errors become one line and an exit code."""
