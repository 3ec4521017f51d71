"""Model of a training step: layers, pipeline, memory, stragglers, mixed fleets."""
