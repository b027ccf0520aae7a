"""What becomes of an order about which a crash has left unknown whether it was executed, or a
broken connection whether the server knows.

What may be done twice is done again: reads, waits, messages (the server knows them by their UUIDs)
and FORCE writes, which set a value and are promised to be made. What may not is given up: ADVISE
writes, which are best effort, and sysctls, since a reboot or an update may have been the crash. All
that changes something is reported, whichever way it goes.
"""

from __future__ import annotations

import logging

from smok_fast._core import change_anything, encode_section
from smok_fast.pathpoint.orders import AdviseLevel, Section, SysctlOrder, WriteOrder

__all__ = ["drop_what_may_not_be_repeated", "encode", "is_to_be_marked"]

logger = logging.getLogger(__name__)


def is_to_be_marked(section: Section) -> bool:
    """Whether the journal has to say when the execution begins: whether any of it is to be reported
    if it may be done twice.
    """
    return change_anything(section._orders)


def drop_what_may_not_be_repeated(section: Section) -> None:
    """Leave the orders in a section that may be executed twice, and report what changes something.

    :param section: it was begun before, and may have been finished
    """
    kept = []
    for order in section.orders:
        if isinstance(order, WriteOrder) and order.advise == AdviseLevel.FORCE:
            logger.warning("%r may have been executed before, done again", order)
        elif isinstance(order, WriteOrder | SysctlOrder):
            logger.warning("%r may have been executed before, not done again", order)
            continue
        kept.append(order)
    section.orders[:] = kept


def encode(section: Section) -> bytes:
    """A section as the server would send it over NGTT.

    :raises EncodingError: a value of a write has no form in MiniJSON
    """
    return encode_section(section._orders, section.is_joinable())
