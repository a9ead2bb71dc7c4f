"""Bounded HTTP, the deadline, workers."""
