"""What uploads are called where one of them is chosen: no two alike."""

from collections import Counter
from collections.abc import Sequence

from app.domain.datasets import Dataset
from app.domain.models import Model
from app.web.figures import scaled

Upload = Model | Dataset


def labels(uploads: Sequence[Upload]) -> dict[str, str]:
    """Return a label for each upload by its id: its name, with what tells it from its namesakes."""
    told = {upload.id: upload.name or upload.filename or upload.id for upload in uploads}
    for more in (_size_and_day, _time, _id):
        counts = Counter(told.values())
        told |= {
            upload.id: f"{told[upload.id]}, {more(upload)}"
            for upload in uploads
            if counts[told[upload.id]] > 1
        }
    return told | {
        upload.id: f"{told[upload.id]} ({upload.status})"
        for upload in uploads
        if upload.status != "ready"
    }


def _size_and_day(upload: Upload) -> str:
    return f"{scaled(upload.size_bytes, 'B').text}, {upload.created_at:%Y-%m-%d}"


def _time(upload: Upload) -> str:
    return f"{upload.created_at:%H:%M:%S} UTC"


def _id(upload: Upload) -> str:
    return upload.id
