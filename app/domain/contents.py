"""What an upload is, by its first bytes, that is neither a model nor data, and what to do then."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

HEAD_BYTES = 64
"""First bytes of a file that tell what it is."""

READ: Mapping[str, str] = {
    "model": "Upload an .onnx file, a zip or tar of one with its external data, or a file of Keras"
    " or PyTorch.",
    "dataset": "Upload an .npz (arrays named after the model's inputs, optionally 'targets'), a"
    " .parquet, or a zip of class folders of images.",
}
"""What is read here."""

_SHOWN = 24
"""Characters, or a third as many bytes, of what is not recognised that are shown."""


DataFormat = Literal["parquet", "zip"]

_DATA: Mapping[bytes, DataFormat] = {b"PAR1": "parquet", b"PK": "zip"}


@dataclass(frozen=True)
class Content:
    """Something that people upload by mistake."""

    begins: re.Pattern[bytes]
    what: str
    mistaken: str = ""
    """How that comes, and what mends it."""
    instead: Mapping[str, str] = field(default_factory=dict)
    """What to do with it, where there is something better than to upload another file."""
    fits: str | None = None
    """What it may be nevertheless."""


PICKLE = Content(
    # torch wrote weights as pickles before 1.6, which begin with this number.
    re.compile(rb"\x80[\x02-\x05](?!\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.)[}\]()cXK\x8a\x8c\x95]"),
    "a Python pickle, which runs code when it is opened",
    instead={
        "model": "Of a torch module, write torch.jit.save(torch.jit.trace(model.eval(),"
        " example), 'model.pt') and upload that, or use planish.from_torch(model, example) of"
        " the Python client, which is torch.onnx.export and an upload; of scikit-learn,"
        " planish.from_sklearn(pipeline, example).",
        "dataset": "Write its arrays with numpy.savez('data.npz', x=array), and upload that.",
    },
)

_FILE_ITSELF = "Download the file itself."
_UNPACK = "Unpack it, and upload the file that is in it, or a zip."

_CONTENTS = (
    Content(
        re.compile(rb"\s*<(!doctype|html|head|body)", re.IGNORECASE),
        "a web page",
        "A link often leads to a page about a file, or to one that asks for a login. "
        + _FILE_ITSELF,
    ),
    Content(re.compile(rb"\s*<\?xml", re.IGNORECASE), "an XML document", _FILE_ITSELF),
    Content(
        re.compile(rb"version https://git-lfs"),
        "a Git LFS pointer, which names a file and does not hold it",
        "Run 'git lfs pull' in the repository, and upload the file again.",
    ),
    Content(
        re.compile(rb"/annex/objects/|(\.\./)*\.git/annex/objects/"),
        "a git-annex pointer, which names a file and does not hold it",
        "Run 'git annex get' in the repository, and upload the file again.",
    ),
    Content(re.compile(rb"MZ|\x7fELF|\xca\xfe\xba\xbe|#!"), "a program"),
    PICKLE,
    Content(re.compile(rb"%PDF-"), "a PDF document", _FILE_ITSELF),
    Content(
        re.compile(rb"\x89PNG|GIF8|\xff\xd8\xff"),
        "a picture",
        instead={"dataset": "Put pictures into a zip, a folder for each class."},
    ),
    Content(re.compile(rb"7z\xbc\xaf'\x1c"), "a 7-Zip archive", _UNPACK),
    Content(re.compile(rb"Rar!\x1a"), "a RAR archive", _UNPACK),
    Content(re.compile(rb"\x28\xb5\x2f\xfd"), "packed with Zstandard", _UNPACK),
    Content(
        re.compile(rb"\x93NUMPY"),
        "a NumPy array",
        instead={
            "model": "Upload it as data: numpy.savez('data.npz', x=array) writes such a file.",
            "dataset": "Write it with numpy.savez('data.npz', x=array), where x is the name of the"
            " model's input.",
        },
    ),
    Content(
        re.compile(rb"PAR1"),
        "Parquet data",
        instead={"model": "Upload it as data."},
        fits="dataset",
    ),
    Content(
        re.compile(rb"\x89HDF\r\n\x1a\n"),
        "an HDF5 file",
        instead={
            "dataset": "Write its arrays with numpy.savez, or upload a Keras file as a model."
        },
        fits="model",
    ),
    Content(
        # A .safetensors file begins with a length, which may look like this, and has zeros.
        re.compile(rb'(?![^\0]*\0)[\[{]\s*["\[{\]}\d-]'),
        "JSON text",
        "Where it is an answer of a server, it may say why the file was not sent.",
    ),
)


def mistake(kind: str, head: bytes) -> str | None:
    """Say that a file is something else than a model or data; None where it may be one.

    Args:
        kind: what it should be.
        head: its first bytes, at least ``HEAD_BYTES`` of them where it has as many.
    """
    for known in _CONTENTS:
        if known.fits != kind and known.begins.match(head[:HEAD_BYTES]):
            mended = known.instead.get(kind) or f"{known.mistaken} {READ[kind]}".strip()
            return f"The file is {known.what}, not a {kind}. {mended}"
    return None


def data_format(head: bytes) -> DataFormat | None:
    """Return what data come in, by the first bytes of a file; None where it holds no data."""
    return next((form for begins, form in _DATA.items() if head.startswith(begins)), None)


def unknown(kind: str, head: bytes) -> str:
    """Say that a file is of no format that is read here, and how it begins.

    Args:
        kind: what it should be.
        head: its first bytes.
    """
    if not head:
        return f"The file is empty. {READ[kind]}"
    if (said := mistake(kind, head)) is not None:
        return said
    if not head.strip(b"\0"):
        return (
            f"The file begins with nothing but zeros, and is no {kind}: a download or a copy that"
            " broke leaves such a file. Fetch it again."
        )
    if is_text(head):
        beginning = " ".join(head.decode(errors="ignore").split())[:_SHOWN]
        return f"The file is text that begins '{beginning}', not a {kind}. {READ[kind]}"
    shown = head[: _SHOWN // 3].hex(" ")
    return (
        f"The file is not a {kind} that can be read: it begins with the bytes {shown}. {READ[kind]}"
    )


def is_text(head: bytes) -> bool:
    """Return whether the first bytes of a file are readable text alone; its end may be cut."""
    text = head.decode(errors="ignore")
    whole = len(text.encode()) > len(head) - 4  # a character that was cut has up to three bytes
    return bool(text) and whole and all(c.isprintable() or c in "\t\n\r" for c in text)
