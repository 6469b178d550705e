"""What is closed where its context ends."""

import abc
import contextlib
from types import TracebackType


class Closing(contextlib.AbstractContextManager):
    """A context manager that is itself what its context yields, and closed at the end."""

    @abc.abstractmethod
    def close(self) -> None:
        """Lets go of what is held."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
