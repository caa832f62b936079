"""Holds a GGUF file against two other readings of it: `python3 examples/train/check_export.py MODEL.gguf`

The same tokens go through PyTorch, as in training but in exact integer arithmetic, and through a short NumPy program in
double precision that shares nothing with it but the file reader. With `--checkpoint` the trits and scales of the file are
compared with those of the checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import export
import gguf
import vocabulary
from evaluate import ASKED, prompt
from model import from_file
from tokens import tokenizer_of


def reference(path, tokens):
    """Logits at every position, in float64."""
    keys, tensors = gguf.read(path)
    key = lambda name: keys[f"{export.ARCH}.{name}"]
    heads, kv_heads, eps = key("attention.head_count"), key("attention.head_count_kv"), key("attention.layer_norm_rms_epsilon")
    dim, count = key("rope.dimension_count"), len(tokens)
    tensor = lambda name: tensors[name + ".weight"].astype(np.float64)
    norm = lambda x, name: x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * tensor(name)

    def linear(x, name):
        trits, scale = tensors[name + ".weight"]
        by = 127 / np.maximum(np.abs(x).max(-1, keepdims=True), 1e-5)
        return np.clip(np.rint(x * by), -128, 127) @ trits.T.astype(np.float64) / by * scale

    angle = np.outer(np.arange(count), key("rope.freq_base") ** (-np.arange(0, dim, 2) / dim))[:, None]

    def turned(x):
        a, b = x[..., : dim // 2], x[..., dim // 2 :]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], -1)

    x = tensor("token_embd")[tokens]
    for block in (f"blk.{i}." for i in range(key("block_count"))):
        h = norm(x, block + "attn_norm")
        q = turned(linear(h, block + "attn_q").reshape(count, heads, dim))
        k = turned(linear(h, block + "attn_k").reshape(count, kv_heads, dim))
        v = linear(h, block + "attn_v").reshape(count, kv_heads, dim)
        seen = np.empty((count, heads, dim))
        for head in range(heads):
            of = head * kv_heads // heads
            scores = np.where(np.tri(count, dtype=bool), q[:, head] @ k[:, of].T / np.sqrt(dim), -np.inf)
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            seen[:, head] = shares / shares.sum(-1, keepdims=True) @ v[:, of]
        x = x + linear(norm(seen.reshape(count, heads * dim), block + "attn_sub_norm"), block + "attn_output")
        h = norm(x, block + "ffn_norm")
        inner = np.maximum(linear(h, block + "ffn_gate"), 0) ** 2 * linear(h, block + "ffn_up")
        x = x + linear(norm(inner, block + "ffn_sub_norm"), block + "ffn_down")
    return norm(x, "output_norm") @ tensor("token_embd").T


def compare(name, mine, other):
    apart = np.abs(mine - other)
    same = (mine.argmax(-1) == other.argmax(-1)).mean()
    print(f"{name}: max {apart.max():.2g}, mean {apart.mean():.2g}, best token equal {same:.1%} (deviation of the logits {mine.std():.2f})")
    return same


def check_trits(path, checkpoint):
    """Every trit and scale of the file is the checkpoint's."""
    _, tensors = gguf.read(path)
    model = export.load(checkpoint)
    for i, block in enumerate(model.blocks):
        for name, weight in export.matrices(block).items():
            trits, scale = export.rounded(weight)
            found, found_scale = tensors[f"blk.{i}.{name}.weight"]
            assert (found == trits).all() and found_scale == np.float32(scale), (i, name)
    print("trits and scales are the checkpoint's")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json the model was trained with")
    args = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer, model = tokenizer_of(args.model), from_file(args.model)
    if args.tokenizer:
        trained = vocabulary.load(args.tokenizer)
        for text in (*ASKED, "  two  spaces\n\nand lines\t1234567 it's DON'T na\u00efve \u4f60\u597d \U0001f600"):
            assert tokenizer.encode(text).ids == trained.encode(text).ids, text
            assert tokenizer.decode(tokenizer.encode(text).ids) == text
        print("the file's tokenizer gives the ids of the training one")
    if args.checkpoint:
        check_trits(args.model, args.checkpoint)
    story = tokenizer.encode(" Once upon a time, there was a little dog. " * 3).ids
    for name, tokens in (("a question", prompt(tokenizer, ASKED[0])), ("one token", [vocabulary.BOS_ID]), ("a text", [vocabulary.BOS_ID, *story])):
        with torch.no_grad():
            mine = model(torch.tensor([tokens]))[0].double().numpy()
        same = compare(f"PyTorch and NumPy, {name}, {len(tokens)} tokens", mine, reference(args.model, tokens))
        assert same > 0.95, "the two disagree"


if __name__ == "__main__":
    main()
