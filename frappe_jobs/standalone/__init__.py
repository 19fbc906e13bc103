"""A team without Frappe: SQLAlchemy."""
