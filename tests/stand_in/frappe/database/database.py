"""What all of Frappe's databases are."""


class Database:
    """The one that a site has open."""
