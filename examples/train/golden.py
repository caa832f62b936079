"""Writes greedy tokens for a test: `python3 examples/train/golden.py MODEL.gguf examples/models/golden.txt`

The tokens end before the first choice where the best two logits lie less than 0.05 apart: there another order of additions
may choose the other one.
"""

import argparse
import hashlib
from pathlib import Path

from evaluate import greedy, prompt
from model import from_file
from tokens import EOS, EOT, BOS, tokenizer_of

NEAR = 0.05
MOST = 120


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    model, tokenizer = from_file(args.model), tokenizer_of(args.model)
    begin = [tokenizer.token_to_id(BOS), *tokenizer.encode("Once upon a time, there was a little boy named Tom.").ids]
    prompts = (prompt(tokenizer, "Tell me a story about a dog."), prompt(tokenizer, "My name is Anna. What is your name?"), begin)
    lines = [
        f"# Greedy tokens of {args.model.name}, sha256 {hashlib.sha256(args.model.read_bytes()).hexdigest()},",
        "# by examples/train/golden.py: PyTorch in f32, exact in the ternary products, keys and values in f32.",
        f"# Each answer ends before the first choice whose lead over the second best is under {NEAR}, or with the end of the turn.",
    ]
    for ids in prompts:
        chosen, leads = greedy(model, ids, [tokenizer.token_to_id(t) for t in (EOS, EOT)], MOST)
        sure = next((i for i, lead in enumerate(leads) if lead < NEAR), len(leads))
        text = tokenizer.decode(chosen[:sure], skip_special_tokens=False)
        lines += [
            "",
            f"# {tokenizer.decode(ids, skip_special_tokens=False)!r}",
            f"# {text!r}",
            "prompt " + " ".join(map(str, ids)),
            "greedy " + " ".join(map(str, chosen[:sure])),
        ]
        print(f"{sure} of {len(chosen)} tokens, least lead {min(leads[:sure], default=0):.3f}")
    args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
