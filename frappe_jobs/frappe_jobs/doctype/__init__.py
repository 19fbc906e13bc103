"""Each made only where this Frappe has none of that name."""
