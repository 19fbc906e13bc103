"""Frappe's utils, as far as they are needed."""
