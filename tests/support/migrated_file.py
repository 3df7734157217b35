"""SQLite files with the program's schema and nothing in it, copied: the way there through all revisions has tests of
its own, and takes most of a second.
"""

import asyncio
import tempfile
import threading
from functools import cache
from pathlib import Path

from wardgate.portal.environment import Environment
from wardgate.portal.store import SqliteFile, Store


def migrated_file(path: Path, *, is_durable: bool = True) -> SqliteFile:
    """Make a file at `path`, as a portal that has never been used would leave it."""
    path.write_bytes(_image())
    return SqliteFile(path, is_durable=is_durable)


@cache
def _image() -> bytes:
    images: list[bytes] = []
    # In a thread, as the test that asks first may have a loop already.
    thread = threading.Thread(target=lambda: images.append(asyncio.run(_migrate())))
    thread.start()
    thread.join()
    return images[0]


async def _migrate() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "wardgate.db"
        store = await Store.open(SqliteFile(path), Environment.of_this_process())
        await store.close()
        return path.read_bytes()
