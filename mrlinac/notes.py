"""Notes: what was found, what was done about it, and what is left for a person to decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mrlinac import notebook

Severity = Literal["info", "done", "decide", "warning"]


@dataclass(frozen=True)
class Note:
    """One sentence of the import report: what was found, what was done about it, what is left to decide."""

    severity: Severity
    text: str

    def __str__(self) -> str:
        return f"[{self.severity}] {self.text}"


@dataclass(frozen=True)
class Notes:
    """The import report: readable as text and in a notebook."""

    entries: tuple[Note, ...] = ()

    def __str__(self) -> str:
        return "\n".join(str(note) for note in self.entries)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return notebook.table(("", "note"), [(note.severity, note.text) for note in self.entries])

    def __len__(self) -> int:
        return len(self.entries)

    def texts(self) -> list[str]:
        """All texts."""
        return [note.text for note in self.entries]

    def of(self, severity: Severity) -> list[str]:
        """Texts of one severity."""
        return [note.text for note in self.entries if note.severity == severity]
