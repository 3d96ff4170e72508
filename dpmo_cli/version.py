"""The version of the program, below all rooms so that any of them may name it."""

VERSION = "0.1.0"
