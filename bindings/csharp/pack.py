"""Lays out the NuGet package without a .NET SDK: the assembly, its documentation, one native file per system.

    python3 bindings/csharp/pack.py OUT.nupkg Tern.dll Tern.xml THIRD-PARTY RID=LIBRARY...
    e.g. linux-x64=target/dist/libtern.so win-x64=tern.dll osx-arm64=libtern.dylib

THIRD-PARTY is what packaging/notices.py wrote, and goes in with the licences. Each file goes to runtimes/RID/native/ under the name that DllImport("tern") looks for there. A package that the SDK makes from Tern.csproj
also has the net8.0 assembly, with AskAsync.
"""

import re
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NATIVE = {"win": "tern.dll", "osx": "libtern.dylib", "ios": "libtern.dylib", "linux": "libtern.so", "android": "libtern.so"}
NUSPEC = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd">
  <metadata>
    <id>Tern</id>
    <version>{version}</version>
    <authors>tern</authors>
    <license type="expression">MIT OR Apache-2.0</license>
    <readme>README.md</readme>
    <description>A ternary language model inside your program</description>
    <dependencies><group targetFramework=".NETStandard2.0" /></dependencies>
  </metadata>
</package>
"""
TYPES = """<?xml version="1.0" encoding="utf-8"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
  <Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml" />
  <Default Extension="nuspec" ContentType="application/octet" />
  <Default Extension="dll" ContentType="application/octet" />
  <Default Extension="so" ContentType="application/octet" />
  <Default Extension="dylib" ContentType="application/octet" />
  <Default Extension="xml" ContentType="application/octet" />
  <Default Extension="md" ContentType="application/octet" />
  <Default Extension="txt" ContentType="application/octet" />
</Types>
"""
RELATIONS = """<?xml version="1.0" encoding="utf-8"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
  <Relationship Type="http://schemas.microsoft.com/packaging/2010/07/manifest" Target="/Tern.nuspec" Id="R1" />
</Relationships>
"""


def main(out, assembly, documentation, notices, *natives):
    if not natives:
        sys.exit("a package without a native file is of no use: name at least one RID=LIBRARY")
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), flags=re.M)[1]
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        def add(name, data):
            package.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)  # the same bytes every time
        add("Tern.nuspec", NUSPEC.format(version=version))
        add("[Content_Types].xml", TYPES)
        add("_rels/.rels", RELATIONS)
        add("README.md", (ROOT / "bindings/csharp/README.md").read_bytes())
        add("LICENSE-MIT.txt", (ROOT / "LICENSE-MIT").read_bytes())
        add("LICENSE-APACHE.txt", (ROOT / "LICENSE-APACHE").read_bytes())
        add("THIRD-PARTY.txt", Path(notices).read_bytes())
        add("lib/netstandard2.0/Tern.dll", Path(assembly).read_bytes())
        add("lib/netstandard2.0/Tern.xml", Path(documentation).read_bytes())
        for native in natives:
            rid, _, library = native.partition("=")
            system = rid.partition("-")[0]
            if system not in NATIVE or not library:
                sys.exit(f"{native}: wanted RID=LIBRARY with a RID of {', '.join(NATIVE)}")
            add(f"runtimes/{rid}/native/{NATIVE[system]}", Path(library).read_bytes())


if __name__ == "__main__":
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
