"""The texts the model learns from: where they lie, their checksums, and how they open.

Every file is `xz`-packed UTF-8. A `.txt` holds documents, each followed by a line `<|endoftext|>`; a `.jsonl` holds one
conversation a line. A file is read only after its SHA-256 has been compared, so a run cannot start from other text.
"""

import hashlib
import json
import lzma
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"

#: SHA-256 of the packed files. The licences are in `README.md` and in the model card.
SHA256 = {
    "tinystories-train.txt.xz": "071928d4c1c39fe7d2817a7de361e825d4d8617b99d55be464d0831af47d513f",
    "tinystories-heldout.txt.xz": "4b64ce21745ea994be207dbffc24d4877ff04e88edcf04e8ec0213ccb36d9523",
    "fairytales.txt.xz": "5fa9252d1a5774cae3261665e98b1b0caf39acea7bb080b3961fd17351302184",
    "fairytale-qa.jsonl.xz": "46a50b8f9fae23c99426319ee803d542af028d1f51cb1ad6c86fe178cb6976d3",
    "persona-chat.jsonl.xz": "007a864587532860906fe8c4b71ae7730451cd05c45fa3056dbfbfef54ef3797",
    "chitchat.jsonl.xz": "54b361042c7f78b4f42a63f90c6d443de9e617a069d947c4b4d69e963ea5194e",
    "topical-chat.jsonl.xz": "eba63cb7ba52a01d1878edaed4612f54f480ef376d767dab3f1d2f8a4e5ac7f4",
    "short-instructions.jsonl.xz": "ba1c51a4c7f534f996fe585f2948f644aa874feef3c746bc0c39bf5f55b25c6b",
}

#: Measured on, never trained on.


def read(name: str) -> str:
    """Unpacks one file after checking its sum."""
    packed = (DATA / name).read_bytes()
    found = hashlib.sha256(packed).hexdigest()
    if found != SHA256[name]:
        raise SystemExit(f"{name}: SHA-256 is {found}, wanted {SHA256[name]}")
    return lzma.decompress(packed).decode("utf-8")


def documents(name: str) -> list[str]:
    """The documents of a `.txt` file."""
    parts = read(name).split("<|endoftext|>")
    return [text for text in (part.strip("\n") for part in parts) if text]


def conversations(name: str) -> list[list[dict]]:
    """The conversations of a `.jsonl` file, each a list of messages."""
    return [json.loads(line)["messages"] for line in read(name).splitlines() if line]
