"""Secrets in texts: how they look, how they are named, and what is put in their place."""
