"""Models and kernels on one device, and the comparison of their numbers."""
