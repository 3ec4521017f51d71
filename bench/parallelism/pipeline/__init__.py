"""Arithmetic of pipelines: schedules, replay of a schedule, bubbles."""
