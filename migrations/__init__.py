"""The schema's history (Alembic), shipped in the wheel and run by ``planish migrate``."""

from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.settings import Database


def configuration(database: Database) -> Config:
    """Return Alembic's configuration for ``database``."""
    config = Config(Path(__file__).with_name("alembic.ini"))
    config.attributes["database"] = database
    return config


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema to ``revision``; nothing happens where it is there already, or newer."""
    command.upgrade(configuration(database), revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the schema back to ``revision``."""
    command.downgrade(configuration(database), revision)


@lru_cache(maxsize=1)
def head() -> str:
    """Return the newest revision that this package knows."""
    revision = ScriptDirectory(str(Path(__file__).parent)).get_current_head()
    assert revision is not None
    return revision
