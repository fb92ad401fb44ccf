"""Named entries that register themselves when their file is imported: methods and metrics."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from salmubench.errors import UserError

T = TypeVar("T")


class Registry(Generic[T]):
    """Entries by name. The files of ``package`` are imported on first use, so that a new file is found by itself.

    Args:
        kind: what an entry is called in an error message, e.g. ``"method"``.
        package: dotted name of the package whose modules register entries.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, T] = {}
        self._typed: dict[str, str] = {}
        self._loaded = False

    def add(self, name: str, entry: T, source: Any = None) -> None:
        """Adds an entry; a name that is taken is a programming error.

        Args:
            name: what the entry is asked for by.
            entry: the entry.
            source: the class or function behind it. One that was typed into a notebook or at a prompt may be typed
                again, and takes the former's place.
        """
        typed = source.__qualname__ if getattr(source, "__module__", None) == "__main__" else None
        if name in self._entries and (typed is None or self._typed.get(name) != typed):
            raise ValueError(f"two {self.kind}s are called {name!r}")
        self._entries[name] = entry
        if typed is not None:
            self._typed[name] = typed

    def _load(self) -> None:
        if not self._loaded:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                try:
                    importlib.import_module(f"{self.package}.{module.name}")
                except Exception as error:
                    where = f"{self.package.replace('.', '/')}/{module.name}.py"
                    raise UserError(f"{where}: does not import ({type(error).__name__}: {error}); mend it") from error
            self._loaded = True

    def names(self) -> list[str]:
        """All names, sorted."""
        self._load()
        return sorted(self._entries)

    def __getitem__(self, name: str) -> T:
        self._load()
        if name in self._entries:
            return self._entries[name]
        near = difflib.get_close_matches(name, self._entries, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"choose from {', '.join(self.names())}"
        raise UserError(f"there is no {self.kind} {name!r}: {hint}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())
