"""The wide sweep: a process for every model, and a row for each kept in a file with a digest of what decides it."""

import hashlib
import json
import logging
import multiprocessing
import os
import resource
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import reticket
from tests.zoo.entries import Entry
from tests.zoo.measure import LIMIT, measured
from tests.zoo.wide_pictures_and_sounds import PICTURES_AND_SOUNDS
from tests.zoo.wide_texts import TEXTS
from tests.zoo.wide_timm import VARIANTS

FAMILIES = TEXTS + PICTURES_AND_SOUNDS
ENTRIES: dict[str, Entry] = {entry.name: entry for entry in (*VARIANTS, *FAMILIES)}
LIBRARIES = ("torch", "timm", "transformers")
FORKS = multiprocessing.get_context("forkserver")  # each process is a copy of one that has imported everything
FORKS.set_forkserver_preload(["tests.zoo.preload"])


def versions() -> dict[str, str]:
    """Return the version of every library that models come from, empty where it is missing."""
    return {name: version(name) if find_spec(name) else "" for name in LIBRARIES}


def digest(entry: Entry) -> str:
    """Return what decides a model's row: the code of the package and of the check, the libraries and the model."""
    here, package = Path(__file__).parent, Path(reticket.__file__).parent
    files = [*sorted(package.rglob("*.py")), *(here / f"{name}.py" for name in ("entries", "measure", "soundness"))]
    parts = [path.read_bytes() for path in files] + [text.encode() for text in versions().values()]
    return hashlib.sha256(b"\0".join([*parts, repr(entry).encode()])).hexdigest()


def sweep(entries: Sequence[Entry], out: Path, jobs: int) -> list[dict[str, Any]] | None:
    """Measure the models that lack a row of the present code; None when interrupted, with the rows so far kept."""
    out.mkdir(parents=True, exist_ok=True)
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    rows = {entry.name: row for entry in entries if (row := _kept(entry, out))}
    waiting = [entry for entry in entries if entry.name not in rows]
    running: dict[Any, tuple[Entry, Any]] = {}  # by what is waited on
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                child = FORKS.Process(target=measure, args=(waiting[0].name, out))
                child.start()
                running[child.sentinel] = waiting.pop(0), child
            for ended in wait(list(running)):
                entry, child = running.pop(ended)
                child.join()
                rows[entry.name] = row = _kept(entry, out) or _broken(entry, out, child.exitcode)
                print(f"{len(rows):4} of {len(entries)}  {line(row)}", flush=True)
    except KeyboardInterrupt:
        print(f"interrupted: {len(rows)} of {len(entries)} models are kept in {out}; the same command goes on")
        return None
    finally:
        for _, child in running.values():
            child.terminate()
    return [rows[entry.name] for entry in entries]


def line(row: dict[str, Any]) -> str:
    """Return what is printed about a model."""
    figures = f"{row['seconds']:.1f} s" if "seconds" in row else ""
    error = f"error {row['error']:.1e}" if "error" in row else row.get("sentence", "")
    return f"{row['name']}: {row['verdict']}, {figures}, {error}"


def _path(entry: Entry, out: Path) -> Path:
    return out / f"{entry.source}-{entry.name}.json"


def _kept(entry: Entry, out: Path) -> dict[str, Any] | None:
    path = _path(entry, out)
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return kept["row"] if kept.get("digest") == digest(entry) else None


def measure(name: str, out: Path) -> None:
    """Measure one model in this process and keep its row, whole or not at all."""
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 10))
    logging.disable()  # torch tells at length where a trace failed
    entry = ENTRIES[name]
    path = _path(entry, out)
    path.with_suffix(".log").unlink(missing_ok=True)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # what libraries say about a configuration
            row = measured(entry)
    except Exception:
        path.with_suffix(".log").write_text(traceback.format_exc(), encoding="utf-8")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    path.with_suffix(".part").write_text(json.dumps({"digest": digest(entry), "row": row}, indent=1) + "\n", "utf-8")
    path.with_suffix(".part").replace(path)


def _broken(entry: Entry, out: Path, code: int | None) -> dict[str, Any]:
    """Return the row of a model whose process ended otherwise than it should; it is tried again next time."""
    log = _path(entry, out).with_suffix(".log")
    last = log.read_text("utf-8").strip().splitlines()[-1] if log.exists() else ""
    sentence = f"the process ended with {code}; {last}"
    return {"name": entry.name, "source": entry.source, "verdict": "broken", "sentence": sentence}
