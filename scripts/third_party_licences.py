#!/usr/bin/env python3
"""third_party_licences.py: prints the licence notices of the crates in the shipped binary. Most licences require them."""
import json
import re
from pathlib import Path

import sbom

NOTICE = re.compile(r"(licen[cs]e|copying|notice|copyright|unlicense)", re.I)


def notices(folder):
    """The texts of the licence files of a crate, by name."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and NOTICE.match(path.name))
    return [path.read_text(errors="replace").strip() for path in files]


def main():
    host = re.search(r"^host: (.*)$", sbom.run("rustc", "-vV"), re.M).group(1)
    command = ("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", host)
    metadata = json.loads(sbom.run(*command))
    packages = {package["id"]: package for package in metadata["packages"]}
    root, edges = sbom.linked(metadata)
    crates_of = {}
    for identity in edges:
        package = packages[identity]
        name = f"{package['name']} {package['version']} ({package.get('license') or 'see its text'})"
        if identity == root or not package.get("source"):
            continue
        for text in notices(Path(package["manifest_path"]).parent) or ["(The crate contains no licence file.)"]:
            crates_of.setdefault(text, []).append(name)
    print("Notices of the crates in the binary `weir`. A text that several crates share is printed once.")
    for text, names in sorted(crates_of.items(), key=lambda item: sorted(item[1])):
        print("\n" + "=" * 80 + "\n" + "\n".join(sorted(names)) + "\n" + "-" * 80 + "\n" + text)


if __name__ == "__main__":
    main()
