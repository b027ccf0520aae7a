"""``smok-fast demo``: a gateway from end to end, on this machine.

A simulated boiler room behind a MODBUS TCP server, a device that archives its registers, and a
local SMOK server that takes the samples and gives the orders. The check at the end compares what
the server holds with what was read, as the pathpoints themselves told while it ran.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.table import Table

from smok_fast.basics import StorageLevel
from smok_fast.cli.boiler_room import POINTS, BoilerRoom
from smok_fast.cli.console import console, error_console, fail
from smok_fast.client import SMOKDevice
from smok_fast.client.certificate import create_development_certificates
from smok_fast.exceptions import OperationFailedError
from smok_fast.extras import NativePathpointDatabase
from smok_fast.modbus import ModbusPathpoint, TcpClient, TcpServer
from smok_fast.pathpoint import Pathpoint, Section
from smok_fast.pathpoint.orders import Disposition

if TYPE_CHECKING:
    from smok_fast.testing import Admin

__all__ = ["demo"]

DEVICE_ID = "demo-gateway"

#: What the table shows; there are more than fit a terminal.
SHOWN = [
    "w1r10", "w1r11", "W1r13", "f1l200", "w1r100", "W1r103", "B1f101", "w1r1100", "w1r1102",
    "W1r1103", "B1f1100", "W1r1104", "w1r1200", "w1r1202",
]  # fmt: skip

#: What is ordered while the demonstration runs: after which share of its time, which writes.
ORDERS = [
    (0.15, {"w1r1102": 480}),
    (0.35, {"B1f1100": 0, "w1r1202": 380}),
    (0.6, {"B1f1100": 1, "w1r12": 560}),
]

#: How long it may take at the end until the server has everything, in seconds.
SETTLE_WITHIN = 20.0

LABELS = {point.name: point.label for point in POINTS}

#: A reading, in a form that can be compared: milliseconds, and a value or an error code.
Reading = tuple[int, int | float | str]


class Gateway(SMOKDevice):
    """The device: every pathpoint is a register of one MODBUS server. What it reads is on the disk
    within a second.
    """

    def __init__(self, cert: str, key: str, state: Path, url: str, modbus: TcpClient) -> None:
        self.modbus = modbus
        self.readings: dict[str, list[Reading]] = defaultdict(list)
        super().__init__(cert, key, state, url=url, upload_linger=0.5)

    @property
    def database(self) -> NativePathpointDatabase:
        """Where the samples are."""
        assert isinstance(self.pp_database, NativePathpointDatabase)  # noqa: S101 (made from a path)
        return self.pp_database

    def provide_unknown_pathpoint(
        self, name: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Pathpoint:
        """A register, by its name."""
        try:
            # Once it is made it may be read: what it reports must be noted from the start.
            return ModbusPathpoint(self, name, storage_level, self._note, client=self.modbus)
        except ValueError as error:
            raise KeyError(name) from error

    def _note(self, pathpoint: Pathpoint) -> None:
        try:
            timestamp, value = pathpoint.get()
        except OperationFailedError as error:
            timestamp, value = int(error.timestamp), str(error)
        self.readings[pathpoint.name].append((timestamp, value))


def demo(
    seconds: Annotated[float, typer.Option(min=2, help="How long to run.")] = 20.0,
    modbus: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Read the same registers of a real device instead. Nothing is written to it.",
        ),
    ] = None,
) -> None:
    """Run a gateway from end to end: boiler room, MODBUS, archive, SMOK server, orders.

    Shows what is read, uploaded and ordered, and ends with status 0 only if the server
    then holds exactly the samples that were read.
    """
    try:
        from smok_fast.server import LocalServer  # noqa: PLC0415 (needs what may not be installed)
        from smok_fast.testing import Admin  # noqa: PLC0415
    except ImportError as error:
        fail(error)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smok-fast-demo-")))
        certificates = create_development_certificates(folder, DEVICE_ID)
        server = stack.enter_context(LocalServer(folder / "server.sqlite"))
        admin = stack.enter_context(Admin(server.url))
        admin.set_archives(DEVICE_ID, _archives())
        room = stack.enter_context(BoilerRoom()) if modbus is None else None
        client = stack.enter_context(_client(stack, room, modbus))
        state = folder / "state"
        device = Gateway(str(certificates.cert), str(certificates.key), state, server.url, client)
        stack.enter_context(device)
        _watch(device, admin, seconds, [] if room is None else ORDERS)
        problems = _settle(device, admin)
        problems += _compare(device, admin)
        if room is not None:
            problems += _check_orders(room)
        _conclude(device, admin, problems)


def _archives() -> list[dict[str, object]]:
    by_interval: dict[float, list[str]] = defaultdict(list)
    for point in POINTS:
        by_interval[point.interval].append(point.name)
    return [{"interval": interval, "pathpoints": names} for interval, names in by_interval.items()]


def _client(stack: contextlib.ExitStack, room: BoilerRoom | None, modbus: str | None) -> TcpClient:
    """A client of the simulated boiler room, or of the real device."""
    if room is not None:
        server = stack.enter_context(TcpServer(room.registers))
        return TcpClient(server.host, server.port)
    host, _, port = str(modbus).rpartition(":")
    if not host or not port.isdecimal():
        fail(f"{modbus} is no HOST:PORT")
    return TcpClient(host, int(port))


def _watch(
    device: Gateway, admin: Admin, seconds: float, orders: Iterable[tuple[float, dict[str, int]]]
) -> None:
    """Show what happens, and give orders at their times."""
    started = time.monotonic()
    waiting = [(started + share * seconds, writes) for share, writes in orders]
    given: list[str] = []
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while (now := time.monotonic()) < started + seconds:
            while waiting and waiting[0][0] <= now:
                _, writes = waiting.pop(0)
                admin.queue_orders(DEVICE_ID, [_section(writes)])
                given.append(", ".join(f"{name} := {value}" for name, value in writes.items()))
            live.update(_table(device, started + seconds - now, given), refresh=True)
            time.sleep(0.1)
    console.print(_table(device, 0, given))


def _section(writes: dict[str, int]) -> dict[str, object]:
    orders = [
        {"type": "write", "path": name, "value": value, "advise": 1}
        for name, value in writes.items()
    ]
    return {"orders": orders, "disposition": 0}


def _table(device: Gateway, seconds_left: float, given: Sequence[str]) -> Table:
    figures = device.database.buffer.statistics()
    link = "up" if device.link_is_up else "down"
    table = Table(
        title=f"{DEVICE_ID}: {figures['pathpoints']} registers over MODBUS TCP",
        caption=(
            f"archived {figures['recorded']}, acknowledged {figures['acknowledged']}, "
            f"queue {device.queue_length}, link {link}, {seconds_left:.0f} s left\n"
            f"orders: {'; '.join(given[-2:]) or 'none yet'}"
        ),
        expand=True,
    )
    table.add_column("pathpoint", style="cyan", no_wrap=True, min_width=9)
    table.add_column("what it is", no_wrap=True, ratio=1)
    for column in ("value", "age, ms", "archived", "acknowledged"):
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    now = time.time() * 1000
    for name in SHOWN:
        recorded, acknowledged = device.database.buffer.counts(name)
        latest = device.database.buffer.latest(name)
        value, age = ("", "") if latest is None else (_brief(latest[1]), f"{now - latest[0]:.0f}")
        table.add_row(name, LABELS[name], value, age, str(recorded), str(acknowledged))
    return table


def _brief(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _settle(device: Gateway, admin: Admin) -> list[str]:
    """Wait until the orders are executed and the server has what was read."""
    deadline = time.monotonic() + SETTLE_WITHIN
    with console.status("waiting for the last samples"):
        while admin.pending_orders(DEVICE_ID) and time.monotonic() < deadline:
            time.sleep(0.05)
        device.set_archives({})
        barrier = Section(disposition=Disposition.CANNOT_JOIN)
        device.execute(barrier)
        with contextlib.suppress(TimeoutError):
            barrier.result(max(deadline - time.monotonic(), 0))
        while device.database.buffer.statistics()["pending"] and time.monotonic() < deadline:
            time.sleep(0.05)
    pending = device.database.buffer.statistics()["pending"]
    return [f"{pending} samples were not acknowledged in time"] if pending else []


def _compare(device: Gateway, admin: Admin) -> list[str]:
    """How the samples on the server differ from what was read."""
    problems = []
    for name, readings in sorted(device.readings.items()):
        held = [
            (sample.timestamp, sample.error_code or sample.value)
            for sample in admin.values(DEVICE_ID, name)
        ]
        if held != readings:
            problems.append(f"{name}: {len(readings)} samples read, the server holds {len(held)}")
    count = admin.samples_count(DEVICE_ID)
    read = sum(map(len, device.readings.values()))
    if count != read:
        problems.append(f"{read} samples read altogether, the server holds {count}")
    if not read:
        problems.append("nothing was read")
    return problems


def _check_orders(room: BoilerRoom) -> list[str]:
    wanted = {name: value for _, writes in ORDERS for name, value in writes.items()}
    return [
        f"{name} was ordered to be {value} and is {room.registers[name]}"
        for name, value in wanted.items()
        if room.registers[name] != value
    ]


def _conclude(device: Gateway, admin: Admin, problems: Sequence[str]) -> None:
    for problem in problems:
        error_console.print(f"[bold red]wrong:[/] {problem}", soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    figures = device.database.buffer.statistics()
    console.print(
        f"[bold green]OK[/]: the server holds exactly the {figures['recorded']} samples of "
        f"{figures['pathpoints']} registers that were read.",
        soft_wrap=True,
    )
