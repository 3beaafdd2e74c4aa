"""The readers, imported where children are forked: each child would import them anew."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable

_ALWAYS = (
    "numpy.ma",  # Arrow asks of each array that it is given whether it is one of these
    "udfs.decode.recording",
    "udfs.decode.mcap",
    "udfs.decode.ros1bag",
    "udfs.decode.rosbag2",
)
_MDF_SUFFIXES = {"mf4", "mdf", "dat", "mf4z"}
_CAN_SUFFIXES = {"asc", "blf", "trc", "log"}
_CAN_READERS = ("", "_asc", "_blf", "_trc", "_candump")


def import_readers(uris: Iterable[str]) -> None:
    """Import what the objects will probably need.

    Their names decide on nothing else: an MDF file under another name is read all the same, it
    only takes the seconds that cantools and all that it imports take.
    """
    for name in _ALWAYS:
        importlib.import_module(name)
    # The last two: what is packed has a suffix more.
    suffixes = {part for uri in uris for part in uri.lower().split(".")[-2:]}
    if suffixes & _MDF_SUFFIXES:
        importlib.import_module("udfs.decode.mdf4")
    if suffixes & _CAN_SUFFIXES:
        for name in _CAN_READERS:
            importlib.import_module(f"udfs.decode.can_log{name}")
    if suffixes & {*_MDF_SUFFIXES, *_CAN_SUFFIXES, "dbc"}:
        _import_cantools()


def _import_cantools() -> None:
    """Import cantools without asammdf, which it gets through python-can and has no use for here."""
    if "cantools.database" in sys.modules or "asammdf" in sys.modules:
        return
    sys.modules["asammdf"] = None  # type: ignore[assignment]  python-can takes it as absent
    try:
        importlib.import_module("cantools.database")
    finally:
        del sys.modules["asammdf"]
