"""A case next to what others published: the kind of its rate, columns of its row, and words for people."""
