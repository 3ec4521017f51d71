"""This process among others: signals that end it, its standard streams, and folders that it holds."""
