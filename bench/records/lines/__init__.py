"""Lines of a result file as typed structures, and their decoding."""
