"""Explanation of a step: where its time goes, and which rank or link holds the others up."""
