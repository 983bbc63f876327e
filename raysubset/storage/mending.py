"""What this process wrote to a folder that it took over, looked after.

An owner looks at its claim before each write, and one that stands still just then writes one object
late, over the next owner's. That is never loaded (the manifests' hashes differ), but it would cost
rounds: so who took a folder over looks at what it wrote, and writes again what is other now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from raysubset.storage.remote import Stamp


class Ours:
    """Names that this process wrote, with what the store told of them when they were right."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._right: dict[str, Stamp | None] = {}  # None: not looked at since it was written

    def wrote(self, name: str) -> None:
        """A name was written."""
        self._right[name] = None

    def forget(self, name: str) -> None:
        """A name is ours no more: it was deleted, or is another's."""
        self._right.pop(name, None)

    def replaced(
        self, there: Mapping[str, Stamp], is_same: Callable[[str, Stamp], bool]
    ) -> list[str]:
        """Return the names that are gone or other; `is_same` is asked of what is new or changed."""
        found: list[str] = []
        for name, right in list(self._right.items()):
            stamp = there.get(name)
            if stamp is not None and (stamp == right or is_same(name, stamp)):
                self._right[name] = stamp
            else:
                found.append(name)
        return found
