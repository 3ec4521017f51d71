"""Checks of the product on a machine with a GPU; see `scripts/device_check --help`."""
