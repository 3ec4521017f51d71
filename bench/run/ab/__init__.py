"""`bench ab`: two settings in alternating launches."""
