"""smok_fast: programs that behave as SMOK devices, with a Rust core.

Import what you use from its module, as with the reference client: ``smok_fast.client``,
``smok_fast.pathpoint``, ``smok_fast.basics``, ``smok_fast.exceptions``, ``smok_fast.modbus``.
Nothing is imported here, so that ``import smok_fast`` costs nothing.
"""

__version__ = "0.1.0"
