"""What the gate found, line by line, and whether it passes."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """Lines of text, failures among them, and how much of each kind was compared."""

    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    compared: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, text: str, *, failed: bool = False, compared: bool = True) -> None:
        """One finding."""
        line = f"{'FAIL' if failed else 'ok  ' if compared else '-   '} {kind}: {text}"
        self.lines.append(line)
        if failed:
            self.failures.append(line)
        self.compared[kind] = self.compared.get(kind, 0) + compared

    def missing(self, kinds: tuple[str, ...]) -> list[str]:
        """Kinds of which nothing was compared."""
        return [kind for kind in kinds if not self.compared.get(kind)]
