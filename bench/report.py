"""Replaces the text between two markers in a Markdown page. The rest of the page stays."""
import datetime
import pathlib
import re


def marks(key):
    return f"<!-- begin {key} -->", f"<!-- end {key} -->"


def write(page, key, text):
    """Returns False if the page has no such section."""
    page = pathlib.Path(page)
    begin, end = marks(key)
    there = page.read_text()
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    if not pattern.search(there):
        return False
    page.write_text(pattern.sub(lambda _: f"{begin}\n{text.strip()}\n{end}", there))
    return True


def write_chart(page, key, svg):
    """Writes the chart next to the page, and returns the Markdown that shows it."""
    folder = pathlib.Path(page).with_suffix("")
    folder.mkdir(exist_ok=True)
    (folder / f"{key}.svg").write_text(svg)
    return f"![{key}]({folder.name}/{key}.svg)\n\n"


def today():
    return datetime.date.today().isoformat()
