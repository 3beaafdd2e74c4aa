"""The bus definitions that an MDF 4 file brings along, and those that it is decoded with."""

from __future__ import annotations

from contracts.errors import DecodeError, UnsupportedFormatError
from udfs.decode.context import DecodeContext
from udfs.decode.mdf4_plan import FilePlan, GroupPlan
from udfs.decode.sniff import sniff
from udfs.decode.source import BytesSource
from udfs.encodings.dbc import BusDefinition, parse_definition


def file_definitions(plan: FilePlan) -> dict[int, bytes]:
    """Attachments that are bus definitions by their content, by address."""
    found = {}
    for attachment in plan.file.attachments:
        if attachment.data:
            try:
                what = sniff(BytesSource(attachment.data))
            except (DecodeError, UnsupportedFormatError):
                continue
            if what.kind == "bus_definition":
                found[attachment.address] = attachment.data
    return found


class Definitions:
    """Bus definitions by bus: of the context for the bus, of the file, of the context for any.

    The file's own are for CAN unless a frame channel of another bus refers to them.
    """

    def __init__(self, plan: FilePlan, context: DecodeContext) -> None:
        self._named = {
            key: parse_definition(data)
            for key, data in sorted(context.definitions.items())
            if key.startswith(("can:", "lin:"))
        }
        self._own: dict[int, BusDefinition] = {}
        for address, data in file_definitions(plan).items():
            try:
                self._own[address] = parse_definition(data)
            except DecodeError:
                continue  # the index has said so
        self._bound = {
            address
            for data_group in plan.data_groups
            for group in data_group.groups
            for channel in group.group.channels
            for address in channel.attachments
        }

    def of(self, bus: int, group: GroupPlan) -> tuple[BusDefinition, ...]:
        """Definitions for the frames of a bus in a group, the first that knows an id decodes it.

        An attachment that a frame channel refers to holds for that group alone.
        """
        family = group.frame_kind[:3].lower()
        mine = {address for channel in group.group.channels for address in channel.attachments}
        attached = [
            definition
            for address, definition in self._own.items()
            if address in mine or (address not in self._bound and family == "can")
        ]
        first, last = self._named.get(f"{family}:{bus}"), self._named.get(f"{family}:*")
        return tuple(d for d in [first, *attached, last] if d is not None)
