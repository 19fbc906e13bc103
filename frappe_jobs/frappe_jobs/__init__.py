"""The module of our doctypes, in the layout that Frappe expects."""
