"""Work that suites time and check: the torch code. Only suites import it."""
