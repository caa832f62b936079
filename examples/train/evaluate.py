"""Measures a GGUF file: held-out loss, exact zeros, greedy answers. `python3 examples/train/evaluate.py MODEL.gguf`

Everything runs on the weights of the file in the integer arithmetic of the kernels (f32 holds it exactly).
"""

import argparse
import math
from pathlib import Path

import torch
import torch.nn.functional as F

import gguf
import sources
from model import from_file
from tokens import BOS, EOS, EOT, tokenizer_of

STORIES = 359
WINDOW = 512

ASKED = (
    "Tell me a story about a dog.",
    "Tell me a story about a girl named Lily.",
    "Tell me a story about a robot and a cat.",
    "Can you tell me a story about a dragon?",
    "Hi! How are you?",
    "My name is Anna. What is your name?",
    "What is your favorite food?",
    "Where do fish live?",
    "What is the capital of France?",
    "Thank you! Goodbye.",
)

@torch.no_grad()
def loss_of_rows(model, rows):
    """Summed loss in nats and the number of tokens scored: every token of a row but the first."""
    total, count = 0.0, 0
    for row in rows:
        row = torch.tensor(row)[None]
        logits = model(row[:, :-1])
        total += F.cross_entropy(logits[0].double(), row[0, 1:], reduction="sum").item()
        count += row.shape[1] - 1
    return total, count


def story_rows(tokenizer, limit=STORIES):
    """Each held-out story as BOS + text + EOS; one longer than the window goes on in rows that share one token."""
    stories = sources.documents("tinystories-heldout.txt.xz")[:limit]
    rows = []
    for story in stories:
        ids = [tokenizer.token_to_id(BOS), *tokenizer.encode(story).ids, tokenizer.token_to_id(EOS)]
        rows += [ids[i : i + WINDOW + 1] for i in range(0, len(ids) - 1, WINDOW)]
    return rows, sum(len(s.encode()) for s in stories)


def wiki_rows(tokenizer, text, limit=200_000):
    """Rows of BOS and up to 511 tokens, without overlap."""
    raw = text.encode()[:limit]
    ids = tokenizer.encode(raw.decode("utf-8", "ignore")).ids
    bos = tokenizer.token_to_id(BOS)
    return [[bos, *ids[i : i + WINDOW - 1]] for i in range(0, len(ids), WINDOW - 1)], len(raw)


def report_loss(name, model, rows, size):
    total, count = loss_of_rows(model, rows)
    print(
        f"{name}: {count:,} tokens scored, {total / count:.4f} nats/token, {total / size:.4f} nats/byte,"
        f" {total / size / math.log(2):.3f} bits/byte, perplexity {math.exp(total / count):.2f}",
        flush=True,
    )

@torch.no_grad()
def sparsity(path, model, rows):
    """Shares of exact zeros, layer by layer, as a table in Markdown."""
    layers = model.c.layers
    gate, inner, alive = [0] * layers, [0] * layers, [0] * layers
    tokens = 0

    def probe(i, gates, inputs):
        gate[i] += (gates <= 0).sum().item()
        inner[i] += (inputs == 0).sum().item()
        alive[i] = (inputs != 0).flatten(0, 1).any(0) | torch.as_tensor(alive[i], dtype=torch.bool)

    for row in rows:
        row = row[:WINDOW]
        model.hidden(torch.tensor(row)[None], probe)
        tokens += len(row)
    _, tensors = gguf.read(path)
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    print(f"exact zeros over {tokens:,} held-out story tokens\n")
    print("| layer | gate <= 0 | down input 0 | dead | q | k | v | o | gate | up | down |\n|" + "---|" * 11)
    for i in range(layers):
        zeros = [(tensors[f"blk.{i}.{name}.weight"][0] == 0).mean() for name in names]
        cells = [gate[i] / tokens / model.c.ffn, inner[i] / tokens / model.c.ffn]
        print(
            f"| {i} | {cells[0]:.1%} | {cells[1]:.1%} | {model.c.ffn - int(alive[i].sum())} | "
            + " | ".join(f"{z:.1%}" for z in zeros) + " |"
        )
    scale = 1 / tokens / model.c.ffn / layers
    print(f"| mean | {sum(gate) * scale:.1%} | {sum(inner) * scale:.1%} | " + "| " * 8 + "\n")

@torch.no_grad()
def greedy(model, ids, stops, most=220):
    """The tokens chosen after `ids`, and at each the lead of the best over the second."""
    chosen, leads = [], []
    while len(chosen) < most and len(ids) + len(chosen) < model.c.context:
        best = model(torch.tensor([ids + chosen]))[0, -1].topk(2)
        chosen.append(best.indices[0].item())
        leads.append((best.values[0] - best.values[1]).item())
        if chosen[-1] in stops:
            break
    return chosen, leads

def prompt(tokenizer, user):
    """A question in the chat template."""
    bos, eot = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOT)
    return [bos, *tokenizer.encode(f"User: {user}").ids, eot, *tokenizer.encode("Assistant: ").ids]

def answer(model, tokenizer, user, most=220):
    stops = [tokenizer.token_to_id(t) for t in (EOS, EOT)]
    chosen, _ = greedy(model, prompt(tokenizer, user), stops, most)
    ended = chosen[-1] in stops
    return tokenizer.decode(chosen[: -1 if ended else None]), len(chosen), ended

def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--stories", type=int, default=STORIES, help="held-out stories to score")
    parser.add_argument("--wikitext", type=Path, help="wikitext-2-raw-v1 test split, unpacked")
    parser.add_argument("--no-samples", action="store_true")
    args = parser.parse_args()
    model, tokenizer = from_file(args.model), tokenizer_of(args.model)
    rows, size = story_rows(tokenizer, args.stories)
    report_loss(f"tinystories-heldout, {args.stories} stories, {size:,} bytes", model, rows, size)
    if args.wikitext:
        rows_wiki, size_wiki = wiki_rows(tokenizer, args.wikitext.read_text("utf-8"))
        report_loss(f"wikitext2-test, first {size_wiki:,} bytes", model, rows_wiki, size_wiki)
    sparsity(args.model, model, rows[:22])
    for user in () if args.no_samples else ASKED:
        text, count, ended = answer(model, tokenizer, user)
        print(f"> {user}\n\n{text}\n({count} tokens, {'stopped by itself' if ended else 'cut'})\n", flush=True)

if __name__ == "__main__":
    main()
