"""The device: :class:`SMOKDevice`, its slaves, and SMOK's CA certificates."""

from smok_fast.client.certificate import get_dev_ca_cert, get_rapid_ca_cert, get_root_cert
from smok_fast.client.device import SMOKDevice
from smok_fast.client.slave import SlaveDevice
from smok_fast.client.statistics import DeviceStatistics, LatencyHistogram

__all__ = [
    "DeviceStatistics",
    "LatencyHistogram",
    "SMOKDevice",
    "SlaveDevice",
    "get_dev_ca_cert",
    "get_rapid_ca_cert",
    "get_root_cert",
]
