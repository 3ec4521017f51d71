"""Arithmetic of parallel work, without torch: FLOPs, shapes, layouts, divisions of work."""
