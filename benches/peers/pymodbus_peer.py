"""pymodbus's side of the benchmarks: its TCP framer and its PDU classes, without sockets."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import workload
from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse
from workload import check, rate

ROUNDS = 500


def response() -> ReadHoldingRegistersResponse:
    return ReadHoldingRegistersResponse(
        dev_id=1, transaction_id=1, registers=list(workload.REGISTERS)
    )


def modbus_decode() -> float:
    framer = FramerSocket(DecodePDU(is_server=False))
    frame = framer.buildFrame(response())

    def work() -> None:
        for _ in range(ROUNDS):
            _, pdu = framer.handleFrame(frame, 1, 1)
            check(len(pdu.registers) == 125, "registers")

    figure = rate(ROUNDS, work)
    check(framer.handleFrame(frame, 1, 1)[1].registers == workload.REGISTERS, "values")
    return figure


def modbus_encode() -> float:
    framer, message = FramerSocket(DecodePDU(is_server=True)), response()
    figure = rate(ROUNDS, lambda: [framer.buildFrame(message) for _ in range(ROUNDS)])
    check(framer.buildFrame(message)[9:13] == bytes([0, 0, 0, 7]), "registers")
    return figure


MEASUREMENTS = {"modbus_decode": modbus_decode, "modbus_encode": modbus_encode}

if __name__ == "__main__":
    print(MEASUREMENTS[sys.argv[1]]())
