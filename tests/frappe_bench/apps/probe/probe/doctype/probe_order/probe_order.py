"""An order, as the host contract has it."""

from frappe.model.document import Document


class ProbeOrder(Document):
    pass
