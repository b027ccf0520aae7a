"""The threads of a device.

They talk to the server (CommunicatorThread), execute orders (OrderExecutorThread), have pathpoints
archived and macros executed (ArchivingAndMacroThread), and publish logs (LogPublisherThread). Each
is named like its class. With NGTT there is one more: :class:`smok_fast.ngtt.uplink.NGTTConnection`.
"""

from smok_fast.threads.archiving import ArchivingAndMacroThread
from smok_fast.threads.communicator import CommunicatorThread
from smok_fast.threads.executor import OrderExecutorThread
from smok_fast.threads.log_publisher import LogPublisherThread

__all__ = [
    "ArchivingAndMacroThread",
    "CommunicatorThread",
    "LogPublisherThread",
    "OrderExecutorThread",
]
