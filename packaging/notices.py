#!/usr/bin/env python3
"""Writes the notices of the third-party code inside the library.

    cargo metadata --format-version 1 --locked --filter-platform TARGET | packaging/notices.py > THIRD-PARTY

Lists every crate that is linked into the library (not build scripts, procedural macros or tests), its licence
expression and the texts it ships, each text once. A crate without a licence, or with one that is not on the list
below, is an error: somebody must look at it first.
"""

import json
import re
import sys
from pathlib import Path

ACCEPTED = {
    "MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "0BSD",
    "BSL-1.0", "CC0-1.0", "Unlicense", "Unicode-3.0", "Unicode-DFS-2016", "MIT-0",
}
TEXTS = re.compile(r"^(licen[sc]e|copying|copyright|notice|unlicense)", re.IGNORECASE)


def linked(metadata):
    """Ids of the packages whose code ends in the library."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    root = metadata["resolve"]["root"]
    seen, queue = set(), [root]
    while queue:
        here = queue.pop()
        if here in seen:
            continue
        seen.add(here)
        for dep in nodes[here]["deps"]:
            kinds = {kind["kind"] for kind in dep["dep_kinds"]}
            macro = any("proc-macro" in target["kind"] for target in packages[dep["pkg"]]["targets"])
            if None in kinds and not macro:
                queue.append(dep["pkg"])
    seen.discard(root)
    return sorted((packages[i] for i in seen), key=lambda p: (p["name"], p["version"]))


def acceptable(expression):
    """Whether a licence expression can be met: an OR needs one accepted side, an AND both."""
    tokens = re.findall(r"\(|\)|[^\s()]+(?:\s+WITH\s+[^\s()]+)?", expression.replace("/", " OR "))
    at = 0

    def atom():
        nonlocal at
        token = tokens[at]
        at += 1
        if token == "(":
            value = either()
            at += 1
            return value
        return re.sub(r"\s+", " ", token) in ACCEPTED

    def both():
        nonlocal at
        value = atom()
        while at < len(tokens) and tokens[at] == "AND":
            at += 1
            value = atom() and value
        return value

    def either():
        nonlocal at
        value = both()
        while at < len(tokens) and tokens[at] == "OR":
            at += 1
            value = both() or value
        return value

    return bool(tokens) and either()


def main():
    metadata = json.load(sys.stdin)
    bad, texts, lines = [], {}, []
    for package in linked(metadata):
        name = f"{package['name']} {package['version']}"
        expression = package["license"]
        if not expression or not acceptable(expression):
            bad.append(f"{name}: licence {expression or 'not named'}")
        found = []
        folder = Path(package["manifest_path"]).parent
        files = {p for p in folder.iterdir() if p.is_file() and TEXTS.match(p.name)}
        if package["license_file"]:
            files.add(folder / package["license_file"])
        for path in sorted(files):
            text = "\n".join(line.rstrip() for line in path.read_text("utf-8", "replace").strip().splitlines())
            number = texts.setdefault(text, len(texts) + 1)
            found.append(str(number))
        where = "text " + ", ".join(found) if found else "no text shipped; the licence's standard text applies"
        lines.append(f"{name}\n    {expression}; {where}\n    {package['repository'] or package['homepage'] or ''}".rstrip())
    if bad:
        sys.exit("licences that nobody has looked at:\n  " + "\n  ".join(bad))
    if not lines:
        sys.exit("no dependency found: is this the library's own metadata?")
    print("The library contains code of the Rust standard library (MIT OR Apache-2.0, https://github.com/rust-lang/rust)")
    print("and of the crates below.\n")
    print("\n".join(lines))
    for text, number in texts.items():
        print(f"\n{'-' * 100}\ntext {number}\n\n{text}")


if __name__ == "__main__":
    main()
