"""Texts in place of values that a file does not hold."""

MASKED = "(masked)"
"""A secret, within a text."""
SET = "(set, not kept)"
"""Value of a variable without the form of its name: it is set, and to what is not known."""
REMOVED = "(removed)"
"""Something private in a published copy: known once, and equal to nothing."""
