"""A SMOK server to run next to your devices: for development, demonstrations and tests.

It speaks the whole device API over HTTP, keeps what devices send in a database, and has an admin
API that plays the part of the SMOK web site: queueing orders, defining archives, macros,
predicates, sensors and BAOBs, and reading back what arrived. It needs the extra ``server``: ``pip
install 'smok-fast[server]'``. Nothing that runs on a device imports it.

* :func:`run` serves in the foreground, as ``smok-fast server`` does;
* :class:`LocalServer` serves in a thread; ``smok_fast.testing`` makes a pytest fixture of it;
* :func:`create_app` and :class:`Store` are the application and its database, for any ASGI server.

**Who calls.** A device identifies itself with its certificate: by TLS, or in the header
``X-SSL-Client-Certificate`` as PEM with a tab for each line end. Without a CA file the header is
taken at its word, so keep this server off the Internet.

**Events.** Beyond the API, ``POST /v1/device/alarms`` looks at the header
``X-SMOK-Provisional-UUIDs``, which keeps an event that comes again, since the answer was lost, from
being stored twice: see :mod:`smok_fast.server.resources.alarms`.

**NGTT.** With an ``ngtt_port``, orders are pushed to the devices that are connected there, by TLS
with certificates on both sides; :mod:`smok_fast.server.outbox` tells what goes which way.

**Admin API.** JSON (or MiniJSON) in, JSON out; bodies need their ``Content-Type``. ``GET /admin``
lists all calls. Nearly all are about one device, named by the query parameter ``device``; a device
that never called may be set up too. Lists that can grow are paged: ``{"items": […], "next":
position}``, and ``?after=position&limit=n`` gives the next page. Without an admin token only calls
from this machine are answered; with one, calls need ``Authorization: Bearer …``.

===============================  =================================================================
``GET /admin``                   all calls
``GET /admin/devices``           device IDs
``PUT /admin/device``            names, culture, facets, slaves of a device
``GET /admin/slaves``            slaves with their link state and instrumentation
``POST, GET /admin/orders``      queue sections; what was neither fetched nor confirmed yet
``GET /admin/ngtt``              whether a device is connected over NGTT, and how orders went
``GET /admin/messages``          message orders and when they were confirmed
``GET, PUT /admin/pathpoints``   known pathpoints and their storage levels
``GET, PUT /admin/archives``     ``[{interval, pathpoints}]``
``GET, PUT /admin/sensors``      ``[{fqts, path, type}]``
``GET, PUT /admin/predicates``   ``[{predicate_id, statistic, …}]``
``GET, PUT /admin/macros``       ``[{macro_id, commands, occurrences}]``
``GET /admin/values``            samples of the pathpoint ``path``
``GET /admin/conflicts``         samples that contradict what was stored
``GET /admin/counts``            how much of everything there is
``GET /admin/events``            events
``GET /admin/logs``              log records
``GET /admin/write_log``         sensor writes
``GET /admin/baobs``             keys and versions
``GET, PUT, DELETE /admin/baob`` content of the BAOB ``key``
``GET, PUT, DELETE /admin/metadata``  plain metadata
``GET, POST, DELETE /admin/faults``   faults to inject: see :mod:`smok_fast.server.faults`
===============================  =================================================================
"""

from __future__ import annotations

try:
    from smok_fast.server.app import DEFAULT_MAX_BODY, create_app
    from smok_fast.server.running import LocalServer, run
    from smok_fast.server.store import Store
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in (
        "python_multipart",
        "sqlalchemy",
        "starlette",
        "uvicorn",
    ):
        raise
    raise ImportError(
        f"smok_fast.server needs {error.name}: pip install 'smok-fast[server]'", name=error.name
    ) from error

__all__ = ["DEFAULT_MAX_BODY", "LocalServer", "Store", "create_app", "run"]
