"""Errors that end the command: unforeseen ones, and files in the place of modules."""
