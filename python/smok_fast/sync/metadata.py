"""Sends the metadata that the device wrote."""

from __future__ import annotations

from smok_fast.sync.base import SyncTask

__all__ = ["MetadataTask"]


class MetadataTask(SyncTask):
    """Sends metadata. Run by CommunicatorThread."""

    name = "metadata"

    def exchange(self) -> bool:
        """Send what the server lacks."""
        self.answered = self.device.metadata.try_update()
        return False
