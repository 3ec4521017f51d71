"""`bench run` and `bench ab`: from options to the exit code and the last screen."""
