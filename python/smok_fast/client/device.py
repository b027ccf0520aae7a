"""SMOKDevice: what a user subclasses and runs.

It owns the databases, the connection to the server and the threads, and hands requests from one to
the other; what is done about each subject lives in ``smok_fast.sync``, ``smok_fast.threads`` and
the subject's own module.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import threading
import time
import warnings
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from smok_fast._core import Buffer, OrderQueue
from smok_fast._urls import segment
from smok_fast.baob import BAOB
from smok_fast.basics import DeviceInfo, StorageLevel
from smok_fast.client.api import RequestsAPI, base_url
from smok_fast.client.certificate import Credentials, get_dev_ca_cert, get_root_cert
from smok_fast.client.databases import Databases
from smok_fast.client.slave import SlaveDevice
from smok_fast.client.statistics import DeviceStatistics
from smok_fast.exceptions import (
    NotReadedError,
    OperationFailedError,
    ReparseSyntaxError,
    ResponseError,
    UnavailableError,
)
from smok_fast.extras import (
    BaseArchivesDatabase,
    BaseBAOBDatabase,
    BaseEventDatabase,
    BaseMacroDatabase,
    BaseMetadataDatabase,
    BasePathpointDatabase,
    BasePredicateDatabase,
    BaseSensorDatabase,
    BaseSensorWriteDatabase,
    BufferedPathpointDatabase,
    NativePathpointDatabase,
)
from smok_fast.metadata import PlainMetadata
from smok_fast.pathpoint.orders import MessageOrder, Section
from smok_fast.pathpoint.pathpoint import Pathpoint
from smok_fast.pathpoint.reparse import ReparsePathpoint
from smok_fast.pathpoint.typing import PathpointType
from smok_fast.predicate import BaseStatistic, Color, Event
from smok_fast.predicate.registration import CollectionOfStatistics, StatisticRegistration
from smok_fast.predicate.undefined import UndefinedStatistic
from smok_fast.sensor import Sensor, SensorWriteEvent, fqtsify
from smok_fast.state import OrderJournal
from smok_fast.sync.archives import ArchivesTask
from smok_fast.sync.baobs import BAOBsTask
from smok_fast.sync.base import SyncTask
from smok_fast.sync.data import CheckpointTask, DataTask
from smok_fast.sync.events import EventsTask
from smok_fast.sync.macros import MacroExecutionTask, MacroReportsTask, MacrosTask
from smok_fast.sync.metadata import MetadataTask
from smok_fast.sync.orders import MessagesTask, OrderIntake, OrdersTask
from smok_fast.sync.pathpoints import PathpointsTask
from smok_fast.sync.predicates import PredicatesTask, TicksTask
from smok_fast.sync.sensor_writes import SensorWritesTask
from smok_fast.sync.sensors import SensorsTask
from smok_fast.sync.time_zone import TimeZoneTask, keep_time_zone, kept_time_zone
from smok_fast.threads.archiving import ArchivingAndMacroThread
from smok_fast.threads.base import TerminableThread
from smok_fast.threads.communicator import CommunicatorThread
from smok_fast.threads.counters import Counters
from smok_fast.threads.executor import OrderExecutorThread
from smok_fast.threads.log_publisher import LogPublisherThread

if TYPE_CHECKING:
    from smok_fast.client.certificate import PEMSource
    from smok_fast.ngtt.uplink import NGTTConnection

__all__ = ["SMOKDevice"]

logger = logging.getLogger(__name__)

#: How long close() may take altogether, and how much of it the threads that record may, in seconds.
CLOSE_WITHIN = 9.5
STOP_WITHIN = 4.0
#: How many seconds after its start a device executes the orders that the last run has left.
RESTORE_AFTER = 2.0
#: When close() cuts the calls that still hang, in seconds from its start.
CUT_AFTER = 8.0


class SMOKDevice:
    """A program that behaves as a SMOK device. Subclass it, and override at least
    :meth:`provide_unknown_pathpoint`.

    It starts up to four threads, which are daemons: CommunicatorThread, OrderExecutorThread and
    ArchivingAndMacroThread, which the ``dont_*`` switches can spare, and LogPublisherThread; and a
    fifth one for NGTT, ``ngtt uplink``. A call to the server has a timer thread besides while it is
    under way. :meth:`close` it at the end, or use it as a context manager. Methods may be called by
    any thread, unless they say that a certain thread calls them: those are there to be overridden.

    :param cert: the device certificate: a path, a file-like object, or its PEM as bytes
    :param priv_key: its private key; likewise
    :param evt_database: the path of the device's state file, where everything is kept that is not
        given a database of its own, see :class:`~smok_fast.state.StateFile`; a relative one begins
        at the working folder. Or where events are kept: then there is no state file
    :param pp_database: where samples are kept; if None, in the folder ``<path of the state
        file>.buffer``, or in memory if there is no state file. The device closes what it makes
        itself; what you give is yours to close, after the device
    :param macro_database: where macros are kept; None for the state file, or else memory
    :param meta_database: where metadata is kept; likewise
    :param sensor_database: where sensors are kept; likewise
    :param baob_database: where BAOBs are kept; likewise
    :param pred_database: where predicates are kept; likewise
    :param arch_database: where the list of archived pathpoints is kept; likewise
    :param sensor_write_database: where the log of sensor writes is kept; likewise
    :param allow_sync: whether to talk to the server in the background; can be set later, as an
        attribute
    :param dont_obtain_orders: do not fetch orders; implies ``dont_do_baobs``
    :param dont_sync_sensor_writes: do not upload the log of sensor writes
    :param dont_do_macros: do not fetch and execute macros
    :param dont_do_predicates: do not run predicates, nor upload events
    :param dont_do_pathpoints: do not upload samples, nor synchronize pathpoints and sensors; needs
        a ``sensor_database``
    :param dont_do_baobs: do not synchronize BAOBs; False unless ``dont_obtain_orders``
    :param dont_do_archives: do not archive pathpoints
    :param cache_metadata_for: for how many seconds downloaded metadata is good
    :param startup_delay: seconds to wait before the threads start. Deprecated: use ``delayed_boot``
    :param delayed_boot: start the threads only with :meth:`continue_boot`
    :param use_ngtt: have orders pushed over NGTT; they are polled for only while it is down
    :param url: base URL of the server; by default that of the environment variable
        ``SMOK_BASE_URL``, else that of the certificate's environment
    :param ngtt: the NGTT server, ``host`` or ``host:port``; by default that of the environment
        variable ``SMOK_NGTT``, else the host of ``url``, port 2405
    :param ca_certs: where SMOK's CA certificates are, see
        :func:`~smok_fast.client.certificate.ca_cert_files`
    :param orders_interval: seconds between two polls for orders; they are asked for after each
        upload, too
    :param pathpoints_interval: seconds between two questions for the storage levels of pathpoints;
        they are asked for after each registration, too
    :param sensors_interval: seconds between two fetches of the sensors
    :param predicates_interval: seconds between two fetches of the predicates
    :param baobs_interval: seconds between two comparisons of BAOBs
    :param archives_interval: seconds between two fetches of the list of archived pathpoints
    :param macros_interval: seconds between two fetches of the macros
    :param upload_linger: seconds for which new samples gather before they are uploaded
    :param barrier_timeout: for how many seconds a section that cannot be joined waits for one that
        has nothing left but Futures that do not end
    :param state_classes: classes of which the states of predicates may hold instances, besides
        plain data, to be kept in the state file; see :class:`~smok_fast.extras.SQLiteEventDatabase`

    :raises InvalidCredentials: certificate or key cannot be used; the message says which and why
    :raises TypeError: ``evt_database`` is neither a path nor an event database
    :raises StateInUseError: the state file belongs to another device that runs
    :raises UnavailableError: a CA certificate is configured, but cannot be read
    :raises ValueError: the arguments contradict each other
    :ivar device_id: device ID (str)
    :ivar environment: environment of the certificate
    :ivar url: base URL of the server, without a slash at its end
    :ivar pathpoints: the registered pathpoints by name
    :ivar predicates: the running predicates by their IDs
    :ivar metadata: plain metadata of this device
    :ivar baobs_loaded: whether BAOBs were synchronized once
    :ivar cert_data: the device certificate, as given
    :ivar state_file: the state file, None if there is none
    :ivar uplink: the NGTT connection, None without ``use_ngtt``
    """

    def __init__(
        self,
        cert: PEMSource,
        priv_key: PEMSource,
        evt_database: str | os.PathLike[str] | BaseEventDatabase,
        pp_database: BasePathpointDatabase | None = None,
        macro_database: BaseMacroDatabase | None = None,
        meta_database: BaseMetadataDatabase | None = None,
        sensor_database: BaseSensorDatabase | None = None,
        baob_database: BaseBAOBDatabase | None = None,
        pred_database: BasePredicateDatabase | None = None,
        arch_database: BaseArchivesDatabase | None = None,
        sensor_write_database: BaseSensorWriteDatabase | None = None,
        allow_sync: bool = True,
        dont_obtain_orders: bool = False,
        dont_sync_sensor_writes: bool = False,
        dont_do_macros: bool = False,
        dont_do_predicates: bool = False,
        dont_do_pathpoints: bool = False,
        dont_do_baobs: bool | None = None,
        dont_do_archives: bool = False,
        cache_metadata_for: float = 60,
        startup_delay: float | None = None,
        delayed_boot: bool = False,
        use_ngtt: bool = False,
        *,
        url: str | None = None,
        ngtt: str | None = None,
        ca_certs: str | os.PathLike[str] | None = None,
        orders_interval: float = 60.0,
        pathpoints_interval: float = 600.0,
        sensors_interval: float = 300.0,
        predicates_interval: float = 300.0,
        baobs_interval: float = 3600.0,
        archives_interval: float = 600.0,
        macros_interval: float = 1800.0,
        upload_linger: float = 5.0,
        barrier_timeout: float = 60.0,
        state_classes: Sequence[type] = (),
    ) -> None:
        if startup_delay is not None:
            warnings.warn("startup_delay is deprecated: use delayed_boot", DeprecationWarning, 2)
        if dont_do_pathpoints and sensor_database is None:
            raise ValueError("dont_do_pathpoints needs a sensor_database")
        if dont_obtain_orders and dont_do_baobs is False:
            raise ValueError("BAOBs cannot be done without obtaining orders")
        self._closing = threading.Lock()
        self._closed = False
        self._ready = threading.Event()
        self._registering = threading.Lock()
        self._allow_sync = allow_sync
        self.barrier_timeout = barrier_timeout
        self.cache_metadata_for = cache_metadata_for
        self.dont_obtain_orders = dont_obtain_orders
        self.dont_sync_sensor_writes = dont_sync_sensor_writes
        self.dont_do_macros = dont_do_macros
        self.dont_do_predicates = dont_do_predicates
        self.dont_do_pathpoints = dont_do_pathpoints
        self.dont_do_baobs = dont_obtain_orders if dont_do_baobs is None else dont_do_baobs
        self.dont_do_archives = dont_do_archives
        self._drops_sensor_writes = sensor_write_database is None and (
            dont_sync_sensor_writes or dont_do_pathpoints
        )
        self.delayed_boot = delayed_boot
        self.use_ngtt = use_ngtt
        self.baobs_loaded = False
        self.boot_completed = False
        self.pathpoints: dict[str, Pathpoint] = {}
        self.predicates: dict[str, BaseStatistic] = {}
        self.statistic_registration = CollectionOfStatistics()
        self._timezone: zoneinfo.ZoneInfo | None = None
        self._order_queue = OrderQueue()
        self.uplink: NGTTConnection | None = None

        self._credentials = Credentials(cert, priv_key)
        try:
            self._databases = databases = Databases(
                evt_database,
                pp_database,
                macro_database,
                meta_database,
                sensor_database,
                baob_database,
                pred_database,
                arch_database,
                sensor_write_database,
                state_classes=state_classes,
            )
        except BaseException:
            self._credentials.close()
            raise
        try:
            self.state_file = databases.state_file
            journal = OrderJournal(self.state_file) if self.state_file else None
            self.order_intake = OrderIntake(self, journal)
            self.evt_database = databases.events
            self.pp_database = databases.pathpoints
            self.macros_database = databases.macros
            self.meta_database = databases.metadata
            self.sensor_database = databases.sensors
            self.baob_database = databases.baobs
            self.pred_database = databases.predicates
            self.arch_database = databases.archives
            self.sensor_write_database = databases.sensor_writes
            if isinstance(self.pp_database, NativePathpointDatabase):
                self._buffer, self._store = self.pp_database.buffer, None
            else:
                self._buffer, self._store = Buffer(0), self.pp_database

            self.device_id = self._credentials.device_id
            self.environment = self._credentials.environment
            self.cert = self._credentials.cert_path, self._credentials.key_path
            self.cert_data = self._credentials.cert_data
            self.url = base_url(url, os.environ, self.environment)
            self.ca_certs = ca_certs
            self.api = RequestsAPI(self.url, self._credentials, ca_certs=ca_certs)
            self.baob_database.check_consistency()
            self.sensor_database.on_register(self)
            self.metadata = PlainMetadata(self)

            self._messages = MessagesTask(self)
            self._orders = OrdersTask(self, interval=orders_interval)
            self._pathpoints = PathpointsTask(self, interval=pathpoints_interval)
            self._sensors = SensorsTask(self, interval=sensors_interval)
            self._predicates = PredicatesTask(self, interval=predicates_interval)
            self._ticks = TicksTask(self)
            self._baobs = BAOBsTask(self, interval=baobs_interval)
            self._events = EventsTask(self)
            self._metadata_sync = MetadataTask(self)
            self._sensor_writes = SensorWritesTask(self)
            self._restore_predicates()

            archives = None if dont_do_archives else ArchivesTask(self, interval=archives_interval)
            macros = None if dont_do_macros else MacrosTask(self, interval=macros_interval)
            tasks = self._conversations(archives, macros, upload_linger)
            self.log_publisher = LogPublisherThread(self)
            self.executor: OrderExecutorThread | None = None
            self.getter: CommunicatorThread | None = None
            self.arch_and_macros: ArchivingAndMacroThread | None = None
            if tasks:
                if self.state_file is not None:
                    self._timezone = kept_time_zone(self.state_file)
                self.executor = OrderExecutorThread(self)
                self.getter = CommunicatorThread(self, tasks, self._buffer, upload_linger)
            if archives or macros:
                execution = MacroExecutionTask(self) if macros else None
                self.arch_and_macros = ArchivingAndMacroThread(self, execution)
            if use_ngtt and not dont_obtain_orders:
                self.uplink = self._make_uplink(ngtt)
            if not delayed_boot:
                self._boot(startup_delay or 0.0)
        except BaseException:
            if self.uplink is not None:
                self.uplink.terminate()
            self._credentials.close()
            databases.close()
            raise

    def _conversations(
        self, archives: ArchivesTask | None, macros: MacrosTask | None, linger: float
    ) -> list[SyncTask]:
        """What to talk about with the server, the most urgent first: people, then samples, then
        lists.
        """
        tasks: list[SyncTask] = []
        time_zone = TimeZoneTask(self)
        if not self.dont_obtain_orders:
            tasks += [self._orders]
        if not self.dont_do_predicates:
            tasks += [self._events]
        if not self.dont_do_pathpoints:
            tasks += [DataTask(self, linger, self._orders.request), self._pathpoints, self._sensors]
        if not self.dont_do_predicates:
            tasks += [time_zone, self._predicates, self._ticks]
        if archives:
            tasks += [archives]
        if macros:
            tasks += [macros, MacroReportsTask(self)]
        if not self.dont_do_baobs:
            tasks += [self._baobs]
        if not self.dont_sync_sensor_writes and not self.dont_do_pathpoints:
            tasks += [self._sensor_writes]
        if not tasks:
            return []
        if time_zone not in tasks:
            tasks += [time_zone]
        return [self._messages, *tasks, self._metadata_sync, CheckpointTask(self)]

    def _make_uplink(self, address: str | None) -> NGTTConnection:
        # Only here, so that devices without NGTT need no memory for it.
        from smok_fast.ngtt.protocol import SERVER_VARIABLE  # noqa: PLC0415
        from smok_fast.ngtt.uplink import NGTTConnection  # noqa: PLC0415

        address = address or os.environ.get(SERVER_VARIABLE)
        if not address and self.url != base_url(None, {}, self.environment):
            host = str(urlsplit(self.url).hostname)
            address = f"[{host}]" if ":" in host else host
        uplink = NGTTConnection(
            self._credentials.cert_path,
            self._credentials.key_path,
            self.order_intake.pushed,
            address=address,
            ca_certs=self.ca_certs,
            on_change=self._wake_communicator,
            start=False,
        )
        uplink.allow(self._allow_sync)
        return uplink

    # --- Life
    # --------------------------------------------------------------------------------------

    def _boot(self, delay: float = 0.0) -> None:
        time.sleep(delay)
        if not self.dont_do_archives:
            self.set_archives(self.arch_database.get_archiving_instructions())
        if self.executor is not None and self.order_intake.restore():
            # The program has had no chance yet to register its pathpoints, unless it says so
            pause = 0.0 if self.delayed_boot else RESTORE_AFTER
            self.executor.later(pause, self.order_intake.release)
        for thread in self._threads():
            thread.start()
        self.boot_completed = True

    def _threads(self) -> list[TerminableThread]:
        threads = [
            self.executor,
            self.arch_and_macros,
            self.getter,
            self.uplink,
            self.log_publisher,
        ]
        return [thread for thread in threads if thread is not None]

    def continue_boot(self) -> None:
        """Start the threads of a device that was made with ``delayed_boot``.

        :raises RuntimeError: ``delayed_boot`` was not given, they run already, or the device is
            closed
        """
        self._check_open()
        if not self.delayed_boot or self.boot_completed:
            raise RuntimeError("there is no delayed boot to continue")
        self._boot()

    def close(self) -> None:
        """Stop the threads and clean up. Samples that wait are uploaded, unless the link is down;
        the server gets 3 seconds for that. How many it does not have then is logged.

        Takes 10 seconds at most, whatever hangs. What is still to be executed is cancelled, and who
        waits for it gets an UnavailableError. No-op if called more than once.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
        started = time.monotonic()
        self._ready.set()
        self._order_queue.close()
        recording = [thread for thread in (self.executor, self.arch_and_macros) if thread]
        talking = [thread for thread in (self.uplink, self.getter, self.log_publisher) if thread]
        self._stop(recording, started + STOP_WITHIN)
        while sections := self._order_queue.take(0):
            for section in sections:
                section.cancel()
        if self.executor is not None:
            self.executor.abandon()
        if self.getter is threading.current_thread():
            self.getter.flush()
        self._stop(talking, started + CUT_AFTER)
        self.api.close()
        self._stop(talking, started + CLOSE_WITHIN)
        self._messages.abandon()
        self.order_intake.settle()
        self._credentials.close()
        self._log_backlog()
        busy = [thread.name for thread in self._threads() if thread.is_alive()]
        if busy and self.boot_completed:
            logger.warning("Closed while still busy, left to themselves: %s", ", ".join(busy))
        self._databases.close()

    def _log_backlog(self) -> None:
        if self._store is not None or self.dont_do_pathpoints:
            return
        left = self._buffer.statistics()["pending"]
        if left:
            database = self.pp_database
            where = ""
            if isinstance(database, BufferedPathpointDatabase):
                where = f"; they are kept in {database.path}"
            logger.warning("Closed with %d samples that the server does not have%s", left, where)

    def _stop(self, threads: Sequence[TerminableThread], deadline: float) -> None:
        for thread in threads:
            thread.terminate()
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the device is closed")

    @property
    def allow_sync(self) -> bool:
        """Whether to talk to the server in the background. May be set at any time, by any thread.

        While it is False everything is kept for later; calls that you make yourself are not
        affected, unless they say so.
        """
        return self._allow_sync

    @allow_sync.setter
    def allow_sync(self, allow: bool) -> None:
        self._allow_sync = allow
        if self.uplink is not None:
            self.uplink.allow(allow)
        self._wake_communicator()
        self.log_publisher.wake()

    def wait_until_synced(self) -> None:
        """Block until sensors and predicates have been fetched once, or the device is closed.

        No-op if there is no CommunicatorThread, or if it has neither to fetch; and when it is
        called by that thread, as by a statistic: what comes from before is all that there is.
        """
        nothing_to_fetch = self.dont_do_pathpoints and self.dont_do_predicates
        if self.getter not in (None, threading.current_thread()) and not nothing_to_fetch:
            self._ready.wait()

    def on_successful_sync(self, *args: Any, **kwargs: Any) -> None:
        """Override it to learn that the server has answered. Called by CommunicatorThread after
        each conversation, and by threads of yours that ask for the device info.

        :param args: nothing yet
        :param kwargs: nothing yet
        """

    def on_failed_sync(self, *args: Any, **kwargs: Any) -> None:
        """Override it to learn that the server does not answer. Called by CommunicatorThread for
        each try that failed, and by threads of yours that ask for the device info.

        :param args: nothing yet
        :param kwargs: nothing yet
        """

    @property
    def link_is_up(self) -> bool | None:
        """Whether the server answered the last time; None if it was not asked yet."""
        return None if self.getter is None else self.getter.link.is_up

    @property
    def queue_length(self) -> int:
        """How many sections wait to be executed."""
        return len(self._order_queue)

    def statistics(self) -> DeviceStatistics:
        """The present figures of this device. Cheap: to be called every second, if you like."""
        counters = Counters() if self.executor is None else self.executor.counters
        retried, failed, latencies = counters.snapshot()
        database = self.pp_database
        native = database if isinstance(database, NativePathpointDatabase) else None
        return DeviceStatistics(
            queue_length=self.queue_length,
            executing=0 if self.executor is None else self.executor.executing,
            retried=retried,
            failed=failed,
            latencies=latencies,
            link_is_up=self.link_is_up,
            last_http_contact=None if self.getter is None else self.getter.link.last_contact,
            ngtt_is_up=None if self.uplink is None else self.uplink.reachable,
            last_ngtt_contact=None if self.uplink is None else self.uplink.last_contact,
            journalled_orders=self.order_intake.journalled,
            state_file_fails=self.state_file is not None and self.state_file.failing,
            dropped_log_records=self.log_publisher.dropped,
            buffer=None if native is None else native.statistics(),
        )

    def note_conversation(self) -> None:
        """Look whether the device is synced now. Called by CommunicatorThread after each
        conversation.
        """
        sensors = self.dont_do_pathpoints or self._sensors.synced_once
        predicates = self.dont_do_predicates or self._predicates.synced_once
        if sensors and predicates:
            self._ready.set()

    def _wake_communicator(self) -> None:
        if getattr(self, "getter", None) is not None:
            self._buffer.wake()

    # --- Pathpoints
    # --------------------------------------------------------------------------------

    def provide_unknown_pathpoint(
        self, name: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Pathpoint:
        """Override it to make pathpoints that are asked for and were not registered. By default
        there are none.

        Called by any thread. Never called for reparse pathpoints.

        :param name: name of the pathpoint
        :param storage_level: how long its values are to be kept
        :return: the pathpoint
        :raises KeyError: there is no such pathpoint; what was asked of it is skipped
        """
        raise KeyError(name)

    def get_pathpoint(
        self, path: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Pathpoint:
        """A pathpoint; it is made and registered if it is not known yet.

        :param path: its name
        :param storage_level: how long its values are to be kept, if it is made now; so for those
            that it is computed from
        :raises KeyError: there is no such pathpoint, or one that it is computed from; or its
            expression is wrong, and the message says where
        :raises TypeError: :meth:`provide_unknown_pathpoint` returned something else
        :raises RuntimeError: the device is closed
        """
        self._check_open()
        known = self.pathpoints.get(path)
        if known is not None:
            return known
        if path.startswith("r"):
            return self._make_reparse_pathpoint(path, storage_level)
        provided = self.provide_unknown_pathpoint(path, storage_level)
        if not isinstance(provided, Pathpoint):
            raise TypeError(f"asked for pathpoint {path}, got {provided!r:.200}")
        if provided.name != path:
            raise KeyError(f"asked for pathpoint {path}, got {provided.name}")
        self.register_pathpoint(provided)
        return self.pathpoints[path]

    def _make_reparse_pathpoint(self, path: str, storage_level: StorageLevel) -> Pathpoint:
        try:
            PathpointType.get_type(path)
        except ValueError as error:
            raise KeyError(str(error)) from error
        try:
            pathpoint = ReparsePathpoint(self, path, storage_level)
        except ReparseSyntaxError as error:
            column = error.position + 3  # the expression begins at the third
            raise KeyError(f"{error.message} (column {column} of {path})") from error
        with self._registering:
            return self.pathpoints.setdefault(path, pathpoint)

    def register_pathpoint(self, pp: Pathpoint) -> None:
        """Make a pathpoint known to this device. Its constructor does so if it is given the device.

        Of several with one name the first one is read and written; the others share its values.

        :param pp: the pathpoint
        :raises RuntimeError: the device is closed, or the pathpoint belongs to another one
        """
        self._check_open()
        if pp.name.startswith("r") or pp.device is self:
            return
        own = type(pp)
        pp._attach(
            self._buffer,
            self._store,
            own.can_read is not Pathpoint.can_read,
            own.set_new_value is not Pathpoint.set_new_value,
        )
        pp.device = self
        if self._store is not None:
            self._recall(pp, self._store)
        with self._registering:
            first = self.pathpoints.setdefault(pp.name, pp) is pp
        if first and not self.dont_do_pathpoints:
            self._pathpoints.registered(pp)
            self._wake_communicator()

    @staticmethod
    def _recall(pathpoint: Pathpoint, store: BasePathpointDatabase) -> None:
        """Give a pathpoint the value that the user's store has from before."""
        try:
            pathpoint._remember(*store.get_current_value(pathpoint.name))
        except NotReadedError:
            pass
        except OperationFailedError as error:
            pathpoint._remember(error.timestamp, error)
        except Exception:
            logger.exception("the pathpoint database cannot tell the value of %s", pathpoint.name)

    def set_archives(self, instructions: Mapping[float, Sequence[str]]) -> None:
        """Replace the list of archived pathpoints until the server sends its own, which it does
        soon after the start and every ``archives_interval`` seconds, if only an empty one.

        :param instructions: names of pathpoints by interval in seconds, from 0.01
        :raises TypeError: the names of an interval are one text instead of a sequence of names, or
            an interval is no number
        :raises ValueError: an interval is not above zero
        :raises UnavailableError: archiving is switched off
        :raises RuntimeError: the device is closed
        """
        for interval, names in instructions.items():
            if not isinstance(interval, int | float):
                raise TypeError(f"archives at interval {interval!r}: it is no number")
            if not interval > 0:
                raise ValueError(f"archives at interval {interval}: it is not above zero")
            if isinstance(names, str):
                raise TypeError(
                    f"archives at interval {interval}: [{names!r}] is a sequence of names,"
                    f" {names!r} is not"
                )
        self._check_open()
        if self.arch_and_macros is None or self.dont_do_archives:
            raise UnavailableError("the device was started without archives")
        self.arch_and_macros.set_archives(instructions)

    # --- Orders
    # ------------------------------------------------------------------------------------

    def execute(self, *secs: Section) -> Section | None:
        """Have sections executed, in this order unless they are joinable.

        :param secs: the sections; each is a Future that ends when its orders have been executed,
            however they went
        :return: the last one of them
        :raises TypeError: one is no section: then none of them is executed
        :raises UnavailableError: everything is switched off that needs OrderExecutorThread
        :raises RuntimeError: the device is closed
        """
        self._check_open()
        if self.executor is None:
            raise UnavailableError("the device was started without OrderExecutorThread")
        for section in secs:
            if not isinstance(section, Section):
                raise TypeError(f"sections are executed, as in Section([order]); got {section!r}")
        for section in secs:
            self._order_queue.put(section, section.is_joinable())
        return secs[-1] if secs else None

    def execute_section(self, section: Section) -> None:
        """Override it for an execution loop of your own, together with :meth:`sync_sections`.

        Called by OrderExecutorThread, with sections that were not cancelled; it marks them as done
        afterwards.

        :param section: what to execute
        """

    def sync_sections(self, termination_checker: Callable[[], bool]) -> None:
        """Override it together with :meth:`execute_section`: block until all orders so far have
        been executed.

        Called by OrderExecutorThread before and after a section that cannot be joined.

        :param termination_checker: tells whether the device is being closed; return at once if it
            is
        """

    @property
    def has_own_execution_loop(self) -> bool:
        """Whether the class overrides :meth:`execute_section`."""
        return type(self).execute_section is not SMOKDevice.execute_section

    def execute_sysctl(self, op_type: str, op_args: str) -> bool:
        """Execute a sysctl order. Override it for your own ones, and call super() for the rest.

        Called by OrderExecutorThread. Knows ``baob-created``, ``baob-updated`` and
        ``baob-deleted``.

        :param op_type: what to do
        :param op_args: argument of the operation
        :return: whether it was recognised
        """
        if self.dont_do_baobs:
            return False
        if op_type in ("baob-created", "baob-updated"):
            self._baobs.request()
            self._wake_communicator()
            return True
        if op_type == "baob-deleted":
            with contextlib.suppress(KeyError):  # it was never here
                self.baob_database.delete_baob(op_args)
            return True
        return False

    def _execute_message_order(self, order: MessageOrder) -> None:
        """Tell the server to send the message of an order; try as often as the order allows.

        For execution loops of your own; takes as long as the server does.

        :param order: the order
        :raises ResponseError: the server did not take it
        :meta public:
        """
        while True:
            try:
                self.api.post(f"/v1/device/orders/message/{segment(order.uuid)}")
            except ResponseError as error:
                if error.is_no_link():
                    self.on_failed_sync()
                if not order.fail():
                    raise
            else:
                self.on_successful_sync()
                return

    def post_message(self, order: MessageOrder) -> Future[None]:
        """Have CommunicatorThread tell the server to send the message of an order.

        :param order: the order
        :return: a Future that ends when the server was told, and fails when it was given up
        :raises UnavailableError: everything is switched off that needs CommunicatorThread
        :raises RuntimeError: the device is closed
        """
        self._check_open()
        if self.getter is None:
            raise UnavailableError("the device was started without CommunicatorThread")
        future = self._messages.post(order)
        self._wake_communicator()
        return future

    # --- Sensors, BAOBs, metadata
    # ------------------------------------------------------------------

    def get_sensor(self, tag_set: set[str] | str) -> Sensor:
        """A sensor. What the last run was told counts until the sensors were fetched in this one;
        for a sensor that is not known from then it blocks until they were, without a link for ever.

        :param tag_set: the words of its tag name, as a set or in one text
        :raises KeyError: there is no such sensor
        :raises RuntimeError: the device is closed
        """
        self._check_open()
        fqts = fqtsify(tag_set)
        with contextlib.suppress(KeyError):
            return self.sensor_database.get_sensor(fqts)
        self.wait_until_synced()
        self._check_open()
        return self.sensor_database.get_sensor(fqts)

    def get_all_sensors(self) -> Iterator[Sensor]:
        """All sensors: those that the last run was told until they were fetched in this one. If
        there are none it blocks like :meth:`get_sensor`.

        :raises RuntimeError: the device is closed
        """
        self._check_open()
        known = list(self.sensor_database.get_all_sensors())
        if known:
            return iter(known)
        self.wait_until_synced()
        self._check_open()
        return iter(self.sensor_database.get_all_sensors())

    def log_sensor_write(self, sw: SensorWriteEvent) -> None:
        """Log that someone has written a sensor; uploaded in the background. Writing a sensor does
        not log by itself.

        With ``dont_sync_sensor_writes`` or ``dont_do_pathpoints`` nothing is uploaded: then a
        ``sensor_write_database`` of yours has it, and without one it is dropped.

        :param sw: who wrote what
        :raises TypeError: it is no SensorWriteEvent
        :raises RuntimeError: the device is closed
        """
        self._check_open()
        if not isinstance(sw, SensorWriteEvent):
            raise TypeError(f"a SensorWriteEvent is logged, got {sw!r}")
        if self._drops_sensor_writes:
            logger.debug("%r is dropped: sensor writes are switched off", sw)
            return
        self.sensor_write_database.add_sw(sw)
        self._sensor_writes.request()
        self._wake_communicator()

    def get_baob(self, key: str) -> BAOB:
        """A binary object.

        :param key: its key
        :raises UnavailableError: BAOBs are switched off
        :raises RuntimeError: the device is closed
        """
        self._check_baobs()
        return BAOB(self, key)

    def get_all_baobs(self) -> Iterator[BAOB]:
        """All binary objects on this device.

        :raises UnavailableError: BAOBs are switched off
        :raises RuntimeError: the device is closed
        """
        self._check_baobs()
        return (BAOB(self, key) for key in self.baob_database.get_all_keys())

    def on_baob_updated(self, baob_name: str) -> None:
        """Override it to learn that the server has sent a new version of a BAOB.

        Called by CommunicatorThread; not for the first synchronization, nor for what this device
        writes.

        :param baob_name: key of the BAOB
        """

    def request_baob_sync(self) -> None:
        """Have BAOBs compared with the server's now.

        :raises UnavailableError: BAOBs are switched off
        :raises RuntimeError: the device is closed
        """
        self._check_baobs()
        self._baobs.request()
        self._wake_communicator()

    def _check_baobs(self) -> None:
        self._check_open()
        if self.dont_do_baobs:
            raise UnavailableError("the device was started without BAOBs")

    # --- Predicates and events
    # ---------------------------------------------------------------------

    def register_statistic(
        self, stat: type[BaseStatistic], predicate: Callable[[str, dict[str, Any]], bool]
    ) -> StatisticRegistration:
        """Have a class serve predicates. Those that wait for it get instances soon, by
        CommunicatorThread, with a tick of all predicates that comes besides the usual ones.

        :param stat: the class
        :param predicate: called with a statistic's name and its configuration; tells whether the
            class serves it
        :return: the registration, which can be cancelled
        :raises TypeError: it is no subclass of BaseStatistic
        :raises UnavailableError: predicates are switched off
        :raises RuntimeError: the device is closed
        """
        self._check_predicates()
        if not (isinstance(stat, type) and issubclass(stat, BaseStatistic)):
            raise TypeError(f"{stat!r} is no subclass of BaseStatistic")
        registration = StatisticRegistration(predicate, stat)
        self.statistic_registration.add(registration)
        self._ticks.request()
        self._wake_communicator()
        return registration

    def reset_predicates(self) -> None:
        """Forget all predicates and fetch them anew; registered classes stay, and so does the state
        of each predicate. Until the server answers nothing is watched.

        :raises UnavailableError: predicates are switched off
        :raises RuntimeError: the device is closed
        """
        self._check_predicates()
        self.predicates = {}
        self._predicates.request()
        self._wake_communicator()

    def open_event(
        self,
        started_on: int,
        ended_on: int | None,
        color: Color,
        is_point: bool,
        token: str,
        group: str,
        message: str,
        metadata: Mapping[str, str] | None = None,
    ) -> Event:
        """Create an event; it is uploaded in the background.

        :param started_on: when it started, in seconds since the epoch
        :param ended_on: when it ended, in seconds since the epoch; None while it lasts
        :param color: its colour
        :param is_point: whether it is a point event
        :param token: a text of yours
        :param group: notification group
        :param message: what to tell people
        :param metadata: whatever else
        :return: the event
        :raises TypeError: a time is no number
        :raises ValueError: there is no such colour
        :raises UnavailableError: predicates are switched off
        :raises RuntimeError: the device is closed
        """
        self._check_predicates()
        _check_seconds("started_on", started_on)
        if ended_on is not None:
            _check_seconds("ended_on", ended_on)
        event = Event(
            None,
            started_on,
            ended_on,
            color,
            is_point,
            token,
            group,
            message,
            None,
            dict(metadata or {}),
        )
        self.evt_database.add_event(event)
        self._upload_events()
        return event

    def close_event(self, event: Event, timestamp: int | None = None) -> None:
        """Close an event.

        :param event: an open event
        :param timestamp: when it ended, in seconds since the epoch; now by default
        :raises TypeError: the time is no number
        :raises ValueError: it is closed already
        :raises UnavailableError: predicates are switched off
        :raises RuntimeError: the device is closed
        """
        self._check_predicates()
        if timestamp is not None:
            _check_seconds("timestamp", timestamp)
        if event.is_closed():
            raise ValueError("the event is closed already")
        event.ended_on = int(time.time()) if timestamp is None else timestamp
        self.evt_database.close_event(event)
        self._upload_events()

    def get_open_event(self, event_id: str) -> Event:
        """An open event.

        :param event_id: its UUID
        :raises KeyError: there is none, or it is closed
        :raises UnavailableError: predicates are switched off
        :raises RuntimeError: the device is closed
        """
        for event in self.get_all_open_events():
            if event.uuid_matches(event_id):
                return event
        raise KeyError(event_id)

    def get_all_events(self) -> Iterator[Event]:
        """All events that this device keeps.

        :raises UnavailableError: predicates are switched off
        :raises RuntimeError: the device is closed
        """
        self._check_predicates()
        return self.evt_database.get_all_events()

    def get_all_open_events(self) -> Iterator[Event]:
        """All events that are open.

        :raises UnavailableError: predicates are switched off
        :raises RuntimeError: the device is closed
        """
        self._check_predicates()
        return self.evt_database.get_open_events()

    def clear_closed_and_synced_events(self) -> None:
        """Forget events that are closed and known to the server.

        :raises UnavailableError: predicates are switched off
        :raises RuntimeError: the device is closed
        """
        self._check_predicates()
        self.evt_database.clear_closed_and_synced_events()

    def _check_predicates(self) -> None:
        self._check_open()
        if self.dont_do_predicates:
            raise UnavailableError("the device was started without predicates")

    def _upload_events(self) -> None:
        self._events.request()
        self._wake_communicator()

    def _restore_predicates(self) -> None:
        """Have predicates of the last run back; they get their classes with the first tick."""
        for kwargs in self.pred_database.get_all_predicates():
            try:
                predicate = UndefinedStatistic(device=self, **kwargs)
            except TypeError:
                logger.exception("A predicate of the last run makes no sense")
            else:
                self.predicates[predicate.predicate_id] = predicate

    # --- What the server knows about this device
    # ---------------------------------------------------

    def get_device_info(self) -> DeviceInfo:
        """Ask the server about this device; it is asked each time.

        :raises ResponseError: the server did not answer, or refused, or answered something else
        :raises RuntimeError: ``allow_sync`` is False, or the device is closed
        """
        self._check_open()
        if not self.allow_sync:
            raise RuntimeError("allow_sync is False: the server is not to be asked")
        try:
            answer = self.api.get("/v1/device")
        except ResponseError as error:
            if error.is_no_link():
                self.on_failed_sync()
            raise
        self.on_successful_sync()
        try:
            return self.take_over_info(answer)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ResponseError(502, f"the server's answer makes no sense: {error!r}") from error

    def take_over_info(self, answer: Any) -> DeviceInfo:
        """Take over the time zone from what the server says about this device, and have it in the
        state file.

        :param answer: its answer
        :raises KeyError: something is missing, or there is no such time zone
        :raises TypeError: something has the wrong type
        :raises ValueError: something has the wrong form
        :raises OSError: the name of the time zone is that of something else
        """
        info = DeviceInfo.from_json(answer)
        self._timezone = zoneinfo.ZoneInfo(info.timezone)
        if self.state_file is not None:
            keep_time_zone(self.state_file, info.timezone)
        return info

    def get_slaves(self) -> list[SlaveDevice]:
        """Ask the server about the slave devices.

        :raises ResponseError: the server did not answer, or refused
        :raises RuntimeError: ``allow_sync`` is False, or the device is closed
        """
        return [SlaveDevice(self, slave) for slave in self.get_device_info().slaves]

    @property
    def timezone(self) -> zoneinfo.ZoneInfo:
        """The device's time zone. The server is asked for it if it has not told it yet, in this
        run or, where there is a state file, in an earlier one. CommunicatorThread, if there is one,
        asks again at each start and every hour; without it only this run counts.

        :raises ResponseError: the server did not answer, or refused
        :raises RuntimeError: ``allow_sync`` is False, or the device is closed
        """
        self._check_open()
        if self._timezone is None:
            self.get_device_info()
        if self._timezone is None:
            raise ResponseError(502, "the server knows no time zone")
        return self._timezone

    def get_local_time(self) -> datetime.datetime:
        """The present time in the device's time zone.

        :raises ResponseError: the server did not answer, or refused
        :raises RuntimeError: ``allow_sync`` is False, or the device is closed
        """
        self._check_open()
        return datetime.datetime.now(self.timezone)

    @property
    def cert_chain(self) -> bytes:
        """The device certificate and those above it up to SMOK's root, PEM.

        :raises UnavailableError: SMOK's CA certificates are not configured
        """
        return b"".join(
            (self.cert_data, get_dev_ca_cert(self.ca_certs), get_root_cert(self.ca_certs))
        )


def _check_seconds(what: str, when: object) -> None:
    if isinstance(when, bool) or not isinstance(when, int | float):
        raise TypeError(f"{what} is in seconds since the epoch, not {when!r:.100}")
