# Made by scripts/unasync.py of planish/_async: change that, and run it again.
"""``client.datasets``."""

from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

from planish._arrays import Data, as_file
from planish._requests import is_address, joined
from planish._sync import io
from planish._sync.http import Transport
from planish._sync.uploads import Uploads
from planish.types import Dataset, Model


class Datasets(Uploads[Dataset]):
    """The uploaded datasets; called, it yields all of them."""

    def __init__(self, http: Transport) -> None:
        super().__init__(http, "/v1/datasets", Dataset)

    def upload(
        self,
        data: Data,
        *,
        name: str | None = None,
        model: Model | None = None,
        targets: Any = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        wait: bool = True,
    ) -> Dataset:
        """Upload data: a file, arrays by the names of a model's inputs, an array, or a DataFrame.

        Args:
            data: the path of an ``.npz``, ``.parquet`` or zip of class folders of images, or an
                address of one, as in ``from_url``; a dict of
                arrays with a row for each sample; one array, for a model with one input; or a
                DataFrame, with a column for each input, or one for each number of the only input.
            name: for people.
            model: what the data is for; it names one array, and the columns of a DataFrame.
            targets: what the model should answer: an array with a row for each sample, or the
                column of the DataFrame that has it.
            mean: of images, a channel each, subtracted after scaling to 0-1.
            std: of images, a channel each, divided by.
            wait: return when the dataset has been inspected; else at once.

        Raises:
            Rejected: the dataset cannot be used.
            ValueError: the data cannot be made into a dataset; it says why.
        """
        if is_address(data):
            return self.from_url(str(data), name=name, mean=mean, std=std, wait=wait)
        numbers = {"mean": joined(mean), "std": joined(std)}
        inputs = None if model is None else model.inputs
        with TemporaryDirectory(prefix="planish-") as directory:
            file = io.call(as_file, data, inputs, targets, directory)
            return self._send(file, wait=wait, name=name, **numbers)

    def from_url(
        self,
        url: str,
        *,
        sha256: str | None = None,
        name: str | None = None,
        filename: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        wait: bool = True,
    ) -> Dataset:
        """Have the service fetch a dataset, so that its bytes do not pass here.

        Args:
            url: ``https://…`` or ``s3://bucket/key``, where the service may fetch from.
            sha256: what the bytes must have.
            name: for people.
            filename: of the file. Default: the last part of the address.
            mean: as in ``upload``.
            std: as in ``upload``.
            wait: return when the dataset has been fetched and inspected; else at once.

        Raises:
            Invalid: the service does not fetch from there.
            Rejected: there is no such file, its bytes are others, or it cannot be used.
        """
        numbers = {"mean": mean and list(mean), "std": std and list(std)}
        body = {"url": url, "sha256": sha256, "name": name, "filename": filename}
        return self._refer(wait=wait, **body, **numbers)
