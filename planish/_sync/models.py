# Made by scripts/unasync.py of planish/_async: change that, and run it again.
"""``client.models``."""

from pathlib import Path
from typing import Literal

from planish._sync.download import download
from planish._sync.http import Transport
from planish._sync.uploads import Uploads
from planish.types import Model


class Models(Uploads[Model]):
    """The uploaded models; called, it yields all of them."""

    def __init__(self, http: Transport) -> None:
        super().__init__(http, "/v1/models", Model)

    def upload(self, file: str | Path, *, name: str | None = None, wait: bool = True) -> Model:
        """Upload an ``.onnx`` file, or a zip or tar with external data.

        Args:
            file: the model.
            name: for people.
            wait: return when the model has been inspected; else at once.

        Raises:
            Rejected: the model cannot be used.
        """
        return self._send(Path(file), wait=wait, name=name)

    def download(
        self, model: Model | str, to: str | Path, *, form: Literal["upload", "onnx"] = "upload"
    ) -> Path:
        """Download the uploaded bytes, or the self-contained graph (``onnx``).

        Raises:
            CorruptDownload: the bytes are not those that were announced.
        """
        known = self.get(model)
        path = f"/v1/models/{known.id}/content"
        sha256 = known.sha256 if form == "upload" else None
        return download(self._http, path, to, sha256=sha256, form=form)
