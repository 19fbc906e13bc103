"""What acme tells frappe_jobs."""

override_doctype_class = {
    "Account": "acme.models.Account",
    "Sales Order": "acme.models.SalesOrder",
    "Sales Order Item": "acme.models.SalesOrderItem",
}

before_job = ["acme.trace.before_job"]
after_job = "acme.trace.after_job"
