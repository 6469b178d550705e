"""Base class for objects that are closed at the end of their context."""

import abc
import contextlib
from types import TracebackType


class Closing(contextlib.AbstractContextManager):
    """A context manager that yields itself and is closed at the end."""

    @abc.abstractmethod
    def close(self) -> None:
        """Releases all resources."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
