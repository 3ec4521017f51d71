"""The suites that ship with the product, one module each, found by name."""
