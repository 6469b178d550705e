"""The rows of a batch that one of several processes reads."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class RowShare:
    """A process's share of every batch, whatever its size: the rows of its devices.

    Holds only plain numbers, so that it can be sent to the processes that prepare batches.

    Attributes:
        first: index of the first of its devices.
        end: index behind the last of its devices.
        num_devices: number of devices over which a batch is split, in equal parts.

    Example:
        >>> RowShare(first=2, end=4, num_devices=4)(6)
        range(4, 8)
    """

    first: int
    end: int
    num_devices: int

    def __call__(self, batch_size: int) -> range:
        """Returns the rows; those from `batch_size` on are padding.

        Args:
            batch_size: of the whole batch, or of one stream of it.
        """
        each = -(-batch_size // self.num_devices)
        return range(self.first * each, self.end * each)
