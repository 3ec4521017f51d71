"""The text of another tool's file before a format reads it, and the account of its lines and statements."""
