"""Checks of the machine and its set-up before anything is measured."""
