"""The documents that people read: what they point at is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
from typer.main import get_command

from drivelake import cli

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
PATH = re.compile(r"(?<![\w/.])docs/[\w./-]*\w|\b(?:contracts|deploy|benchmarks)/[\w./-]*\.\w+")
COMMAND = re.compile(r"^\$ (drivelake .+)$|`(drivelake [a-z]+ [^`\n]+)`", re.MULTILINE)
PLACEHOLDER = re.compile(r"@@|\b(?:TODO|TBD|FIXME|XXX)\b|\{\{|lorem ipsum", re.IGNORECASE)


def prose(path):
    """Text of a document without its code."""
    return CODE.sub("", FENCED.sub("", path.read_text()))


def anchors(path):
    """Anchors of the headings of a document, as GitHub makes them."""
    found = []
    for title in HEADING.findall(FENCED.sub("", path.read_text())):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return found


def dead(path, link):
    """What is wrong with a link of a document; None if nothing is."""
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return None  # another site, or a mail address
    place, _, anchor = unquote(link).partition("#")
    target = (path.parent / place).resolve() if place else path
    if not target.exists():
        return f"{link}: there is no {place}"
    if not target.is_relative_to(ROOT):
        return f"{link}: outside of the project"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return f"{link}: no heading makes #{anchor}"
    return None


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    """Relative links, images and anchors of a document resolve within the project."""
    assert [fault for link in LINK.findall(prose(path)) if (fault := dead(path, link))] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_is_there(path):
    """A file of this project that a document names without a link exists."""
    missing = [name for name in PATH.findall(path.read_text()) if not list(ROOT.glob(f"{name}*"))]
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_placeholder_is_left(path):
    """No document holds a mark that stands for text to come."""
    assert PLACEHOLDER.findall(path.read_text()) == []


def test_every_command_is_taken_by_the_parser():
    """Command lines of the README and of docs/ name commands, options and values that there are."""
    commands = get_command(cli.app).commands
    documents = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]
    lines = ["".join(found) for path in documents for found in COMMAND.findall(path.read_text())]
    for line in lines:
        [_, name, *arguments] = shlex.split(line, comments=True)
        commands[name].make_context(name, arguments)
    assert len(lines) >= 15


def test_dead_links_are_found(tmp_path):
    """The finder of dead links finds a missing file and a missing anchor, and takes a live one."""
    links = ["no-such-file.md", "#no-such-heading", "operations.md#settings", "https://example.org"]
    faults = [dead(ROOT / "docs" / "operations.md", link) for link in links]
    assert [bool(fault) for fault in faults] == [True, True, False, False]


def test_the_readme_has_links():
    """The pattern of links finds those of the README: its picture and its table."""
    assert len(LINK.findall(prose(ROOT / "README.md"))) >= 8
