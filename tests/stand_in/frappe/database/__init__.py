"""Databases, which the queues do not touch."""
