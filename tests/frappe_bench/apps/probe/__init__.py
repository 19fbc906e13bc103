"""A Frappe app whose jobs say what they found: the tests install it on the bench's sites."""

__version__ = "0.0.1"
