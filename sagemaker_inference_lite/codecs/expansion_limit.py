# SPDX-License-Identifier: Apache-2.0
"""What a body may expand to while it is decoded: at most 256 MiB, or four times its own length where that is more.

Compressed and encoded formats can promise anything in a few bytes. The codecs count what a body unpacks to, and what
is made of that, before they let a library unpack or make it; each of the two may come to as much as is said here.
"""

from __future__ import annotations

from sagemaker_inference_lite.errors import ClientError

MIN_EXPANDED_BYTES = 256 * 1024 * 1024
MAX_EXPANSION = 4


def max_expanded_bytes(length: int) -> int:
    """How many bytes a body of that many may expand to."""
    return max(MIN_EXPANDED_BYTES, MAX_EXPANSION * length)


class ExpansionLimit:
    """What is left of the bytes that a body may expand to.

    Args:
        length: How many bytes the body has.
    """

    def __init__(self, length: int) -> None:
        self._limit = max_expanded_bytes(length)
        self.left = self._limit

    def take(self, size: int, what: str) -> None:
        """Counts bytes that are about to be needed.

        Args:
            size: How many, and not less than none.
            what: What they are, for the caller, such as "The image".

        Raises:
            ClientError: 413 (RFC 9110, section 15.5.14). There is not so much room left.
        """
        if size > self.left:
            raise ClientError(
                413,
                f"{what} would expand the body to more than {self._limit} bytes, which is the most that a body of its "
                f"length may come to; send fewer records, or smaller ones, in a request.",
            )
        self.left -= size
