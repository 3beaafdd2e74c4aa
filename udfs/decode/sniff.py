"""What an object is, told from its bytes and never from its name."""

from __future__ import annotations

import json
import re
from typing import Literal

import attrs

from contracts.errors import DecodeError, UnsupportedFormatError
from contracts.recording import Source

Kind = Literal["recording", "bus_definition", "recording_metadata", "upload_manifest", "unknown"]

HEAD_BYTES = 64 << 10
_MAX_MANIFEST_BYTES = 16 << 20
_MCAP = b"\x89MCAP0\r\n"
_SQLITE = b"SQLite format 3\x00"
_MDF_VERSION = slice(8, 16)
_DBC_SECTION = re.compile(
    rb"^[ \t]*(VERSION[ \t]+\"|NS_[ \t]*:|BS_[ \t]*:|BU_[ \t]*:|BO_[ \t]+\d)", re.MULTILINE
)
_DBC_SURE = re.compile(
    rb"^[ \t]*(BU_[ \t]*:|BO_[ \t]+\d+[ \t]+\w+[ \t]*:|BS_[ \t]*:)", re.MULTILINE
)
_PACKED = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
_TAR = slice(257, 262)
_CAN_LOGS = {
    "asc": re.compile(
        rb"\A\s*(date\s+\S+\s+\S+\s+\d|base\s+(hex|dec)\b|// version \d)", re.IGNORECASE
    ),
    "trc": re.compile(
        rb"\A\s*;\$FILEVERSION\s*=|\A(\s*;[^\n]*\n)*\s*\d+\)\s+\d+(\.\d+)?\s+[0-9A-FRT]"
    ),
    "candump": re.compile(
        rb"^\s*\(\d+\.\d+\)\s+\S+\s+([0-9A-Fa-f]{3,8}#|[0-9A-Fa-f]{3,8}\s+\[\d+\])", re.MULTILINE
    ),
}


@attrs.frozen
class Sniffed:
    """What an object is: its kind, and the format within the kind."""

    kind: Kind
    format: str


def sniff(source: Source) -> Sniffed:
    """Tell what an object is from its content; `unpacked` opens what is packed before.

    Raises:
        DecodeError: EMPTY, no bytes at all; BAD_MAGIC with the first 16 bytes, nothing known.
        UnsupportedFormatError: UNSUPPORTED_FORMAT, known but not served.
    """
    if source.size == 0:
        raise DecodeError("the object has no bytes", code="EMPTY", uri=source.uri)
    head = bytes(source.read_at(0, min(HEAD_BYTES, source.size)))
    found = _from_magic(head, source.uri) or _from_text(head, source)
    if found is None:
        what = f"no known format begins with {head[:16].hex(' ')}"
        raise DecodeError(what, code="BAD_MAGIC", uri=source.uri, offset=0)
    return found


def _from_magic(head: bytes, uri: str) -> Sniffed | None:
    if head.startswith(_MCAP):
        return Sniffed("recording", "mcap")
    if head.startswith(b"\x89MCAP"):
        raise _unsupported(f"MCAP version {head[5:6]!r}", uri)
    if head.startswith(b"#ROSBAG V2.0"):
        return Sniffed("recording", "ros1bag")
    if head.startswith((b"#ROSBAG V", b"#ROSRECORD")):
        raise _unsupported(f"bag of version {head.splitlines()[0][:20].decode('latin-1')}", uri)
    if head.startswith(_SQLITE):
        if b"topics" in head and b"messages" in head:
            return Sniffed("recording", "rosbag2_db3")
        raise _unsupported("SQLite database that is no bag", uri)
    if head[:8] in (b"MDF     ", b"UnFinMF "):
        if head[_MDF_VERSION].lstrip().startswith(b"4"):
            return Sniffed("recording", "mdf4")
        if head.startswith(b"MDF") and head[_MDF_VERSION].lstrip().startswith((b"2.", b"3.")):
            return Sniffed("recording", "mdf3")
        raise _unsupported(f"MDF version {head[_MDF_VERSION].decode('latin-1').strip()}", uri)
    if head.startswith(b"LOGG"):
        return Sniffed("recording", "blf")
    packing = packing_of(head)
    if packing:
        raise refused_pack(f"{packing} archive", uri)
    return None


def packing_of(head: bytes) -> str:
    """How an object is packed that begins with `head`, at least 262 bytes; "" if it is not."""
    found = next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")
    return found or ("tar" if head[_TAR] == b"ustar" else "")


def refused_pack(what: str, uri: str) -> UnsupportedFormatError:
    """The error for something packed that is not opened."""
    return _unsupported(f"{what}: unpack it before the upload", uri)


def _from_text(head: bytes, source: Source) -> Sniffed | None:
    text = head.removeprefix(b"\xef\xbb\xbf")
    if b"<AUTOSAR" in text:
        return Sniffed("bus_definition", "arxml")
    if b"<NetworkDefinition" in text:
        return Sniffed("bus_definition", "kcd")
    if re.search(rb"^rosbag2_bagfile_information\s*:", text, re.MULTILINE):
        return Sniffed("recording_metadata", "rosbag2_metadata")
    if text.lstrip().startswith(b"{"):
        return _from_json(text, source)
    log = next((name for name, mark in _CAN_LOGS.items() if mark.search(text)), "")
    if log:
        return Sniffed("recording", log)
    if b"\x00" not in text and (_DBC_SURE.search(text) or len(set(_DBC_SECTION.findall(text))) > 1):
        return Sniffed("bus_definition", "dbc")
    return None


def _from_json(text: bytes, source: Source) -> Sniffed | None:
    if b"drivelake_manifest" not in text or source.size > _MAX_MANIFEST_BYTES:
        return None
    try:
        value = json.loads(bytes(source.read_at(0, source.size)))
    except ValueError:
        return None
    if isinstance(value, dict) and "drivelake_manifest" in value:
        return Sniffed("upload_manifest", "upload_manifest")
    return None


def _unsupported(what: str, uri: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(what, uri=uri)
