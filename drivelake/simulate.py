"""`drivelake simulate`: drives with a known truth, written to a disk."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from rich.console import Console

from contracts.errors import ContractViolation, PlatformError
from contracts.settings import Settings
from simulation.fleet import FleetSpec, simulate_fleet


def simulate_drives(
    settings: Settings,
    *,
    drives: int,
    seconds: float,
    seed: int,
    console: Console,
    out: Path | None = None,
) -> list[Path]:
    """Simulated drives in a folder, in the landing area if none is given; the truth beside it.

    Returns:
        The folder of each drive.

    Raises:
        ContractViolation: USAGE, a file is in the way of a folder.
    """
    out = out and out.resolve()  # "." has no name to call the truth's folder by
    place = out or local_folder(settings.landing_uri)
    truth = out.with_name(f"{out.name}-truth") if out else local_folder(settings.truth_uri)
    for folder in (place, truth):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            what = f"A file is in the way of the folder {folder}"
            raise ContractViolation(what, code="USAGE", remedy="Name another one") from error
    with console.status("simulate") as line:
        made = simulate_fleet(
            FleetSpec(drives=drives, seconds=seconds, seed=seed),
            out=place,
            truth=truth,
            progress=lambda text: line.update(f"simulate: {text}"),
        )
    return [drive.folder for drive in made]


def local_folder(uri: str) -> Path:
    """Folder of a `file://` URI or a path.

    Raises:
        PlatformError: The place is not on a disk.
    """
    parts = urlsplit(uri)
    if parts.scheme not in {"", "file"}:
        raise PlatformError(
            "Simulated drives are written to a disk",
            uri=uri,
            remedy="Use `drivelake simulate --out` and upload the folders",
        )
    return Path(unquote(parts.path))
