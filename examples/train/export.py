"""Writes a checkpoint as GGUF: `python3 examples/train/export.py CHECKPOINT OUT.gguf`."""

import argparse
import json
from pathlib import Path

import torch

import gguf
import recipe
import vocabulary
from model import Model

ARCH = "bitnet-b1.58"


def export(model: Model, tokenizer_file: Path, out: Path):
    c = model.c
    values = {
        "general.architecture": ARCH,
        "general.name": recipe.NAME,
        "general.description": "Small BitNet b1.58 model for simple stories and short polite chat, trained from scratch",
        f"{ARCH}.vocab_size": c.vocab,
        f"{ARCH}.context_length": c.context,
        f"{ARCH}.embedding_length": c.width,
        f"{ARCH}.block_count": c.layers,
        f"{ARCH}.feed_forward_length": c.ffn,
        f"{ARCH}.rope.dimension_count": c.head_dim,
        f"{ARCH}.attention.head_count": c.heads,
        f"{ARCH}.attention.head_count_kv": c.kv_heads,
        f"{ARCH}.attention.layer_norm_rms_epsilon": c.eps,
        f"{ARCH}.rope.freq_base": c.theta,
        "general.file_type": 40,
        "general.quantization_version": 2,
        **vocabulary_keys(tokenizer_file),
    }
    f32 = lambda t: t.detach().numpy()
    tensors = [("token_embd.weight", gguf.F16, f32(model.embedding))]
    for i, block in enumerate(model.blocks):
        gains = dict(
            attn_norm=block.attn_norm, attn_sub_norm=block.attn_sub_norm,
            ffn_norm=block.ffn_norm, ffn_sub_norm=block.ffn_sub_norm,
        )
        for name, weight in matrices(block).items():
            tensors.append((f"blk.{i}.{name}.weight", gguf.I2_S, rounded(weight)))
        for name, gain in gains.items():
            tensors.append((f"blk.{i}.{name}.weight", gguf.F32, f32(gain)))
    tensors.append(("output_norm.weight", gguf.F32, f32(model.output_norm)))
    gguf.write(out, values, tensors)


def matrices(block):
    """The ternary matrices of a block by their names in GGUF."""
    return dict(
        attn_q=block.q, attn_k=block.k, attn_v=block.v, attn_output=block.o,
        ffn_gate=block.gate, ffn_up=block.up, ffn_down=block.down,
    )


def rounded(weight):
    """The trits and scale of a latent matrix. The mean is taken in f64, so that it does not depend on the thread count."""
    scale = weight.detach().double().abs().mean().float().clamp(min=1e-5)
    return (weight.detach() / scale).round().clamp(-1, 1).numpy().astype("int8"), scale.item()


def vocabulary_keys(tokenizer_file):
    file = json.loads(tokenizer_file.read_text())
    ids = {**file["model"]["vocab"], **{t["content"]: t["id"] for t in file["added_tokens"]}}
    tokens = sorted(ids, key=ids.get)
    special = {vocabulary.BOS, vocabulary.EOS, vocabulary.EOT}
    merges = [m if isinstance(m, str) else " ".join(m) for m in file["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": Int32s(3 if t in special else 1 for t in tokens),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": vocabulary.BOS_ID,
        "tokenizer.ggml.eos_token_id": vocabulary.EOS_ID,
        "tokenizer.ggml.eot_token_id": vocabulary.EOT_ID,
        "tokenizer.ggml.padding_token_id": vocabulary.EOS_ID,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": vocabulary.CHAT_TEMPLATE,
    }


class Int32s(list):
    """A list written as i32, which is what readers of token types expect."""

    kind = 5


def load(checkpoint: Path) -> Model:
    """The model of a checkpoint."""
    model = Model(recipe.CONFIG)
    model.load_state_dict(torch.load(checkpoint, weights_only=False)["model"])
    return model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    export(load(args.checkpoint), args.checkpoint.parent / "tokenizer.json", args.out)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
