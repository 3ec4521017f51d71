"""Planning: from options to the frozen plan that every rank receives."""
