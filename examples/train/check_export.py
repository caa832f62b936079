"""Holds a GGUF file against two other readings of it: `python3 examples/train/check_export.py MODEL.gguf`

The same tokens go through PyTorch, as in training but in exact integer arithmetic, and through a short NumPy program in
double precision that shares nothing with it but the file reader. With `--checkpoint` the trits and scales of the file are
compared with those of the checkpoint; with `--tern bindings/python` (and TERN_LIBRARY naming the library) the tokens, logits and
held-out loss of tern with PyTorch's.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

import export
import gguf
import vocabulary
from evaluate import ASKED, loss_of_rows, prompt, story_rows
from model import from_file
from tokens import tokenizer_of


#: Texts with what tokenizers stumble over.
TEXTS = (*ASKED, "  two  spaces\n\nand lines\t1234567 it's DON'T na\u00efve \u4f60\u597d \U0001f600")


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
    """Prints how far two sets of logits lie apart; where the best token differs, it must have been a near-tie."""
    apart, best = np.abs(mine - other), mine.argmax(-1)
    same = best == other.argmax(-1)
    print(
        f"{name}: max {apart.max():.2g}, mean {apart.mean():.2g}, best token equal {same.mean():.1%}"
        f" (deviation of the logits {mine.std():.2f})"
    )
    first, second = np.sort(mine, -1)[:, -1], np.sort(mine, -1)[:, -2]
    assert (same | (first - second < 0.2)).all() and apart.mean() < 0.05, "the two disagree"


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


def check_tern(path, folder, texts, model, tokenizer):
    """tern on the same file: tokens equal, logits near, and the same held-out loss on twenty stories."""
    sys.path.insert(0, str(folder))
    import tern

    open_model = tern.Model(str(path))
    for text in TEXTS:
        assert open_model.tokenize(text, special=False) == tokenizer.encode(text).ids, text
    print("tern's tokens are those of the training tokenizer")
    context = open_model.context()

    def logits(tokens):
        context.clear()
        context.eval(tokens, logits=tern.LOGITS_ALL)
        return np.stack([np.asarray(context.logits(i)) for i in range(len(tokens))]).astype(np.float64)

    for name, tokens in texts:
        with torch.no_grad():
            mine = model(torch.tensor([tokens]))[0].double().numpy()
        compare(f"PyTorch and tern, {name}, {len(tokens)} tokens", mine, logits(tokens))
    rows, size = story_rows(tokenizer, 20)
    total = 0.0
    for row in rows:
        scores = torch.from_numpy(logits(row[:-1]))
        total += torch.nn.functional.cross_entropy(scores, torch.tensor(row[1:]), reduction="sum").item()
    other, count = loss_of_rows(model, rows)
    print(f"twenty held-out stories: tern {total / count:.4f} nats/token, PyTorch {other / count:.4f}")
    assert abs(total - other) / count < 0.005


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json the model was trained with")
    parser.add_argument("--tern", type=Path, help="folder of tern's Python binding")
    args = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer, model = tokenizer_of(args.model), from_file(args.model)
    if args.tokenizer:
        trained = vocabulary.load(args.tokenizer)
        for text in TEXTS:
            assert tokenizer.encode(text).ids == trained.encode(text).ids, text
            assert tokenizer.decode(tokenizer.encode(text).ids) == text
        print("the file's tokenizer gives the ids of the training one")
    if args.checkpoint:
        check_trits(args.model, args.checkpoint)
    story = tokenizer.encode(" Once upon a time, there was a little dog. " * 3).ids
    texts = [
        ("a question", prompt(tokenizer, ASKED[0])),
        ("one token", [vocabulary.BOS_ID]),
        ("a text", [vocabulary.BOS_ID, *story]),
    ]
    for name, tokens in texts:
        with torch.no_grad():
            mine = model(torch.tensor([tokens]))[0].double().numpy()
        compare(f"PyTorch and NumPy, {name}, {len(tokens)} tokens", mine, reference(args.model, tokens))
    if args.tern:
        check_tern(args.model, args.tern, texts, model, tokenizer)


if __name__ == "__main__":
    main()
