#!/usr/bin/env python3
"""Run pytest again and again for `scripts/mutants.py`, each time in a child of this process.

This process imports what the tests need of other people's packages and nothing of the tree under test; so a child
spares their import, and what it imports of the tree it reads from the files as they are. Whatever the tree has a
module for is dropped first, should it have been imported all the same.

It reads one line of JSON a run, `{"arguments": […], "output": "path"}`, and answers with two: `{"pid": …}`, the head of
a session of its own, when the run begins, and `{"code": …}` when it has ended (negative: the signal that ended it).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import NoReturn


def main() -> None:
    tree, preloaded = Path(sys.argv[1]), Path(sys.argv[2])
    if preloaded.exists():
        for name in preloaded.read_text().split():
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run(tree, request["arguments"], request["output"])
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


def run(tree: Path, arguments: list[str], output: str) -> NoReturn:
    """Be `python -m pytest` in the tree."""
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        out, nothing = os.open(output, os.O_WRONLY | os.O_TRUNC), os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (out, 1), (out, 2)):
            os.dup2(source, target)
        os.chdir(tree)
        src = tree / "src"
        sys.path[0:1] = [str(tree), str(src)]  # where this script lies is nothing to the tree
        own = {path.stem for path in src.iterdir()} if src.is_dir() else set()
        for name in [one for one in sys.modules if one.partition(".")[0] in own]:
            del sys.modules[name]
        importlib.invalidate_caches()
        sys.argv = ["pytest", *arguments]
        runpy.run_module("pytest", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except KeyboardInterrupt:
        code = 2
    except BaseException:  # noqa: BLE001 - whatever it is, the tree is to blame
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
