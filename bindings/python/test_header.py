"""Holds what the bindings say about the C interface against include/tern.h. Needs no library.

    python3 bindings/python/test_header.py
"""

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import tern

ROOT = Path(__file__).resolve().parents[2]
BINDINGS = ROOT / "bindings"
HEADER = re.sub(r"/\*.*?\*/", "", (ROOT / "include/tern.h").read_text(), flags=re.S)
CALLBACK = re.compile(r"\btern_\w+_fn\b")
SCALARS = {"size_t": "z", "int32_t": "i", "uint32_t": "u", "uint64_t": "U", "float": "f", "tern_status": "i", "tern_token": "i",
           "tern_seq": "i"}


def code(declaration, result=False):
    """A parameter, field or result of the header in the letters of tern.py."""
    declaration = declaration.replace("TERN_MUST_USE", "").strip()
    if result and re.fullmatch(r"const char\s*\*", declaration):
        return "s"
    if "*" in declaration or CALLBACK.search(declaration):
        return "p"
    word = declaration.replace("const ", "").split()[0]
    return "v" if word == "void" else SCALARS[word]


def prototypes():
    """{name: (letters, parameters as written)}"""
    found = {}
    for result, name, arguments in re.findall(r"TERN_API\s+([\w\s*]+?)\b(tern_\w+)\(([^;]*?)\);", HEADER, flags=re.S):
        arguments = " ".join(arguments.split())
        parameters = [] if arguments == "void" else [a.strip() for a in arguments.split(",")]
        found[name] = (code(result, result=True) + "".join(map(code, parameters)), parameters)
    return found


PROTOTYPES = prototypes()


class Header(unittest.TestCase):
    def test_it_was_read(self):
        self.assertGreater(len(PROTOTYPES), 80)
        exports = len(re.findall(r"^TERN_API", HEADER, flags=re.M))
        self.assertEqual(len(PROTOTYPES), exports, "a declaration that the pattern does not read")

    def test_python_has_every_prototype(self):
        self.assertEqual(tern._PROTOTYPES, {name: letters for name, (letters, _) in PROTOTYPES.items()})

    def test_python_structs_have_the_fields_and_sizes(self):
        structs = {t.__name__: t for t in vars(tern).values() if isinstance(t, type) and issubclass(t, ctypes.Structure)}
        # The callers of these are not in tern.py: a reader and a job system are given in the host's language.
        bodies = dict(re.findall(r"typedef struct (tern_\w+)\s*\{(.*?)\}\s*tern_\w+;", HEADER, flags=re.S))
        self.assertEqual(set(bodies) - {"tern_reader"}, set(structs))
        for name, struct in structs.items():
            fields = []
            for statement in filter(str.strip, bodies[name].split(";")):
                first, *more = statement.split(",")
                fields.append((re.findall(r"\w+", first)[-1], code(first)))
                fields += [(re.findall(r"\w+", m)[-1], code(first)) for m in more]
            self.assertEqual([(f, tern._TYPES[c]) for f, c in fields], struct._fields_, name)
        compiler = shutil.which("cc") or shutil.which("gcc")
        self.assertTrue(compiler, "needs a C compiler")
        checks = "".join(f"_Static_assert(sizeof(struct {n}) == {ctypes.sizeof(s)}, \"{n}\");\n" for n, s in structs.items())
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "sizes.c")
            Path(source).write_text("#include <tern.h>\n" + checks)
            subprocess.run([compiler, "-fsyntax-only", "-I", str(ROOT / "include"), source], check=True)

    def test_apinotes_cover_every_pointer_and_nothing_else(self):
        notes = {}
        text = (BINDINGS / "swift/Sources/CTern/CTern.apinotes").read_text()
        for line in re.findall(r"^- \{(.*)\}$", text, flags=re.M):
            name = re.search(r"Name: (\w+)", line)[1]
            self.assertNotIn(name, notes, "twice")
            result, parameters = re.search(r"NullabilityOfRet: (\w)", line), re.search(r"Nullability: \[(.*?)\]", line)[1]
            notes[name] = (result[1] if result else "S", [p.strip() for p in parameters.split(",") if p.strip()])
        wanted = {}
        for name, (letters, parameters) in PROTOTYPES.items():
            shape = ["P" if c in "ps" else "S" for c in letters]
            if "P" in shape:
                wanted[name] = (shape[0], shape[1:])
        shapes = {name: ("S" if result == "S" else "P", ["S" if p == "S" else "P" for p in parameters])
                  for name, (result, parameters) in notes.items()}
        self.assertEqual(shapes, wanted)
        for name, (result, nullability) in notes.items():
            for told, parameter in zip(nullability, PROTOTYPES[name][1]):
                if parameter.endswith("out_error") or parameter.endswith("user_data"):
                    self.assertEqual(told, "O", f"{name}: {parameter}")
                if name.endswith("_free") or name.endswith("_retain"):
                    self.assertEqual(told, "O", f"{name}: NULL is allowed")

    def test_csharp_imports_have_the_shapes(self):
        letters = {"UIntPtr": "z", "int": "i", "uint": "u", "ulong": "U", "float": "f", "void": "v"}

        def letter(parameter):
            if "[]" in parameter or re.match(r"(ref|out) ", parameter):
                return "p"
            return letters.get(parameter.split()[0], "p")
        seen = set()
        for path in sorted((BINDINGS / "csharp/Tern").rglob("*.cs")):
            source = path.read_text()
            imports = re.findall(r"\[(?:DllImport|LibraryImport)\(Library\.Name\)\]\s*(?:internal |private )?static (?:extern|partial) "
                                 r"(\w+) (tern_\w+)\((.*?)\);", source, flags=re.S)
            self.assertEqual(len(imports), len(re.findall(r"(?:Dll|Library)Import\(Library\.Name\)\]", source)), path)
            for result, name, arguments in imports:
                arguments = re.sub(r"\[\w+\]\s*(?=\w+\[\])", "", " ".join(arguments.split()))
                told = letter(result) + "".join(letter(a.strip()) for a in arguments.split(",") if a.strip())
                self.assertEqual(told, PROTOTYPES[name][0].replace("s", "p"), f"{path.name}: {name}")
                seen.add(name)
        self.assertGreater(len(seen), 60)

    def test_every_language_names_what_it_leaves_out(self):
        """docs/bindings.md lists the functions that a binding does not call, so that the list cannot go stale."""
        text = (ROOT / "docs/bindings.md").read_text()
        for language, pattern in {"python": "python/tern.py", "go": "go/**/*.go", "csharp": "csharp/Tern/**/*.cs",
                                  "swift": "swift/Sources/Tern/*.swift"}.items():
            used = set()
            for path in BINDINGS.glob(pattern):
                source = path.read_text()
                if language == "python":
                    source = source[source.index('.split())'):]  # past the prototypes
                    source = re.sub(r'_add\("', '"tern_sampler_add_', source)
                used |= set(re.findall(r"\btern_\w+", source))
            left_out = sorted(set(PROTOTYPES) - used)
            told = re.search(rf"<!-- left out: {language} -->(.*?)<!-- end -->", text, flags=re.S)
            self.assertTrue(told, f"docs/bindings.md has no list for {language}")
            self.assertEqual(left_out, sorted(re.findall(r"tern_\w+", told[1])), f"docs/bindings.md, {language}")


if __name__ == "__main__":
    unittest.main()
