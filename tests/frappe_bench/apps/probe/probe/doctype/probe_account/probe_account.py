"""An account, as the host contract has it."""

from frappe.model.document import Document


class ProbeAccount(Document):
    def deposit(self, amount: int = 1) -> int:
        self.balance += amount
        self.save()
        return self.balance

    def _secret(self) -> None:
        raise AssertionError("a private method was run")
