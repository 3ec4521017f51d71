"""Errors that end the command: what nobody foresaw, and files in the place of modules."""
