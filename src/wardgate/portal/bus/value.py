"""What presence and messages have in common: frozen values, tagged with the name of their type when encoded."""

from typing import ClassVar

from msgspec import Struct


class BusValue(Struct, frozen=True, tag=True):
    """A value that crosses the bus. `repr` omits the fields named in `SECRETS`: key material must not reach a
    log.
    """

    SECRETS: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        fields = (
            f"{name}={'…' if name in self.SECRETS else repr(getattr(self, name))}"
            for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({', '.join(fields)})"
