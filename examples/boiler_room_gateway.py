"""A gateway between the MODBUS registers of a boiler room and SMOK.

    python boiler_room_gateway.py certs/device.crt certs/device.key 192.168.1.10 502

The first two arguments are what ``smok-fast cert new`` or SMOK made; the others tell where the
MODBUS TCP server is.
"""

import argparse
import logging
import signal
import sys

from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import OperationFailedError
from smok_fast.logging import SMOKLogHandler
from smok_fast.modbus import ModbusPathpoint, TcpClient

#: What is archived until the server sends a list of its own, which a new server has empty: names by
#: interval in seconds. Unit 1 is the boiler's controller, unit 2 the circuit's; names are explained
#: in smok_fast.modbus.names.
ARCHIVES = {
    0.5: ["w1r100", "w1r101", "B1f10"],  # supply, return (tenths of a degree); burner
    10.0: ["w2r1"],  # room temperature
}

#: What the return is below the supply: computed from other pathpoints, but as good as any.
SPREAD = "rw{w1r100}-{w1r101}"


class Gateway(SMOKDevice):
    """Each pathpoint is the register that its name says."""

    def __init__(self, certificate, key, host, port):
        # Before the base class, which starts threads that ask for pathpoints.
        self.modbus = TcpClient(host, port)
        super().__init__(certificate, key, "gateway-state")

    def provide_unknown_pathpoint(self, name, storage_level=StorageLevel.TREND):
        """The register of this name; KeyError if it is none."""
        return ModbusPathpoint.provide(self, name, storage_level, client=self.modbus)

    def on_failed_sync(self, *args, **kwargs):
        """Called by CommunicatorThread for each try that failed; light a lamp here, say."""

    def close(self):
        """End the device, then the connection that it used."""
        super().close()
        self.modbus.close()


def main():
    """Run until told to end."""
    parser = argparse.ArgumentParser(description="A gateway between a MODBUS server and SMOK.")
    parser.add_argument("certificate", help="device certificate, PEM")
    parser.add_argument("key", help="its private key, PEM")
    parser.add_argument("host", help="where the MODBUS TCP server is")
    parser.add_argument("port", help="its port", type=int)
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())  # leaves the block below, and so closes it
    logging.basicConfig(level=logging.INFO)
    with Gateway(arguments.certificate, arguments.key, arguments.host, arguments.port) as gateway:
        # What is logged here can be read on the server as well.
        handler = SMOKLogHandler(gateway, "gateway")
        logging.getLogger().addHandler(handler)
        gateway.set_archives(ARCHIVES)
        # To read by yourself: execute() returns at once, result() waits for the end of it.
        spread = gateway.get_pathpoint(SPREAD)
        gateway.execute(spread.read()).result()
        try:
            _, tenths = spread.get()
            logging.info("The supply is %.1f °C above the return", tenths / 10)
        except OperationFailedError as error:
            logging.warning("The boiler does not answer: %s", error)
        try:
            while True:
                signal.pause()
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()  # sends what waits


if __name__ == "__main__":
    main()
