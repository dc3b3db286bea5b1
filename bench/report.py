"""Sections of a Markdown page that a command can write again: what stands between their marks is replaced, the rest stays."""
import datetime
import pathlib
import re


def marks(key):
    return f"<!-- begin {key} -->", f"<!-- end {key} -->"


def write(page, key, text):
    """False where the page has no such section."""
    page = pathlib.Path(page)
    begin, end = marks(key)
    there = page.read_text()
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    if not pattern.search(there):
        return False
    page.write_text(pattern.sub(lambda _: f"{begin}\n{text.strip()}\n{end}", there))
    return True


def write_chart(page, key, svg):
    """Beside the page; what the page says to show it."""
    folder = pathlib.Path(page).with_suffix("")
    folder.mkdir(exist_ok=True)
    (folder / f"{key}.svg").write_text(svg)
    return f"![{key}]({folder.name}/{key}.svg)\n\n"


def today():
    return datetime.date.today().isoformat()
