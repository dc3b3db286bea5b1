#!/usr/bin/env python3
"""sbom.py: prints the dependencies of the shipped binary as a CycloneDX 1.5 document.

It lists what `cargo` links for this target: normal and build dependencies, no tests. The output depends on Cargo.lock only."""
import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def checksums():
    """SHA-256 of each package of a registry, by name and version."""
    blocks = (ROOT / "Cargo.lock").read_text().split("[[package]]")[1:]
    found = {}
    for block in blocks:
        value = dict(re.findall(r'^(name|version|checksum) = "(.*)"$', block, re.M))
        if "checksum" in value:
            found[value["name"], value["version"]] = value["checksum"]
    return found


def linked(metadata):
    """The packages that the binary needs, and the edges between them, from the root on."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = next(package["id"] for package in metadata["packages"] if package["name"] == "weir")
    edges, open_ids = {}, [root]
    while open_ids:
        node = nodes[open_ids.pop()]
        if node["id"] in edges:
            continue
        shipped = [dep["pkg"] for dep in node["deps"] if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])]
        edges[node["id"]] = sorted(set(shipped))
        open_ids.extend(shipped)
    return root, edges


def component(package, checksum, kind):
    purl = f"pkg:cargo/{package['name']}@{package['version']}"
    entry = {"type": kind, "bom-ref": purl, "name": package["name"], "version": package["version"], "purl": purl}
    if package.get("license"):
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum:
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("repository"):
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def main():
    host = re.search(r"^host: (.*)$", run("rustc", "-vV"), re.M).group(1)
    metadata = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", host))
    packages = {package["id"]: package for package in metadata["packages"]}
    root, edges = linked(metadata)
    sums = checksums()

    def entry(identity, kind="library"):
        package = packages[identity]
        return component(package, sums.get((package["name"], package["version"])), kind)

    ref = {identity: entry(identity)["bom-ref"] for identity in edges}
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": entry(root, "application")},
        "components": sorted((entry(each) for each in edges if each != root), key=lambda each: each["bom-ref"]),
        "dependencies": sorted(
            ({"ref": ref[each], "dependsOn": sorted(ref[to] for to in edges[each])} for each in edges),
            key=lambda each: each["ref"],
        ),
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
