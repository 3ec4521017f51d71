"""Joining: ranks that another program started meet, agree on what they measure, and say who is missing."""
