"""The port to a site's documents, for the API."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any


class Documents(ABC):
    """The documents of the open site."""

    @abstractmethod
    def get_doc(self, doctype: str, name: Any, *, for_update: bool = False) -> Any:
        """The document of that name; raises the host's DoesNotExistError.

        ``for_update``: as it is now, and locked until this transaction ends.
        """

    @abstractmethod
    def new_doc(self, doctype: str, values: Mapping[str, Any]) -> Any:
        """A document that is not stored yet."""

    @abstractmethod
    def get_all(
        self,
        doctype: str,
        filters: Mapping[str, Any],
        fields: Sequence[str],
        order_by: str | None,
        limit: int | None,
    ) -> list[dict[str, Any]]:
        """The values of those fields, of each document whose fields equal the filters."""
