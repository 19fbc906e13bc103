"""An item of an order."""

from frappe.model.document import Document


class ProbeOrderItem(Document):
    pass
