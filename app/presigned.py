"""Addresses at which the storage takes bytes from whoever has them, signed with our credentials."""

from collections.abc import Sequence
from datetime import timedelta

import obstore
from obstore.store import AzureStore, GCSStore, S3Store

from app.storage import Storage, translated


class Presigned(Storage):
    """The storage as clients reach it."""

    def addresses(self, keys: Sequence[str], lifetime: timedelta) -> list[str]:
        """Return an address for each key, to which one object may be sent with ``PUT``.

        Whoever has an address may write this key alone, until the lifetime is over.
        """
        if not keys:
            return []
        assert isinstance(self._store, S3Store | GCSStore | AzureStore)
        with translated():
            return list(obstore.sign(self._store, "PUT", list(keys), lifetime))

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that each ``PUT`` needs."""
        return {"x-ms-blob-type": "BlockBlob"} if isinstance(self._store, AzureStore) else {}
