"""The block of BitNet b1.58 2B4T, ternary from the first step.

Every matrix of a layer is used as `trits * mean|w|`, every input of such a matrix as int8 with one scale a token. Rounding
has the gradient of the identity (straight-through). The products run in bf16, which holds both int8 values and trits
exactly; latent weights, scales and norms stay f32.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import gguf


@dataclass
class Config:
    vocab: int = 4096
    width: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ffn: int = 768
    context: int = 512
    eps: float = 1e-5
    theta: float = 10000.0


def trits(weight):
    """Rounds a latent matrix to -1, 0, +1 and gives its scale, the mean magnitude."""
    scale = weight.detach().abs().mean().clamp(min=1e-5)
    latent = weight / scale
    rounded = latent.detach().round().clamp(-1, 1)
    return latent + (rounded - latent).detach(), scale


def given(weight):
    """The trits and scale of a matrix that holds only -scale, 0 and +scale: weights read from a file."""
    scale = weight.abs().max()
    return (weight / scale).round(), scale


def acts(x):
    """Rounds activations to int8 values (kept as f32) and gives the scale of each token."""
    scale = 127.0 / x.detach().abs().amax(-1, keepdim=True).clamp(min=1e-5)
    scaled = x * scale
    rounded = scaled.detach().round().clamp(-128, 127)
    return scaled + (rounded - scaled).detach(), scale


def norm(x, gain, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        matrix = lambda rows, cols: nn.Parameter(torch.randn(rows, cols) * cols**-0.5)
        self.q = matrix(c.heads * c.head_dim, c.width)
        self.k = matrix(c.kv_heads * c.head_dim, c.width)
        self.v = matrix(c.kv_heads * c.head_dim, c.width)
        self.o = matrix(c.width, c.heads * c.head_dim)
        self.gate = matrix(c.ffn, c.width)
        self.up = matrix(c.ffn, c.width)
        self.down = matrix(c.width, c.ffn)
        gain = lambda width: nn.Parameter(torch.ones(width))
        self.attn_norm, self.attn_sub_norm = gain(c.width), gain(c.heads * c.head_dim)
        self.ffn_norm, self.ffn_sub_norm = gain(c.width), gain(c.ffn)
        # Small gains on the two writes to the residual stream keep its size from growing with depth.
        self.attn_sub_norm.data *= (2 * c.layers) ** -0.5
        self.ffn_sub_norm.data *= (2 * c.layers) ** -0.5

    def linear(self, x, *weights):
        """One int8 input, one or more ternary matrices side by side."""
        x, x_scale = acts(x)
        parts = [self.round_weights(w) for w in weights]
        codes = torch.cat([part for part, _ in parts]) if len(parts) > 1 else parts[0][0]
        y = F.linear(x.to(self.product), codes.to(self.product)).float() / x_scale
        split = y.split([w.shape[0] for w in weights], dim=-1)
        return [y * scale for y, (_, scale) in zip(split, parts)]

    product = torch.bfloat16
    round_weights = staticmethod(trits)

    def attention(self, q, k, v):
        """Causal attention, written out: at these lengths that is faster on a CPU than the fused kernel."""
        group = self.c.heads // self.c.kv_heads
        k, v = (y[:, :, None].expand(-1, -1, group, -1, -1).reshape(q.shape).to(self.product) for y in (k, v))
        scores = ((q * self.c.head_dim**-0.5).to(self.product) @ k.mT).float()
        past = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        shares = scores.masked_fill(~past, float("-inf")).softmax(-1)
        return (shares.to(self.product) @ v).float()

    def forward(self, x, cos, sin, probe=None):
        c = self.c
        batch, length, _ = x.shape
        q, k, v = self.linear(norm(x, self.attn_norm, c.eps), self.q, self.k, self.v)
        heads = lambda y, n: y.view(batch, length, n, c.head_dim).transpose(1, 2)
        q, k, v = rope(heads(q, c.heads), cos, sin), rope(heads(k, c.kv_heads), cos, sin), heads(v, c.kv_heads)
        y = self.attention(q, k, v).transpose(1, 2).reshape(batch, length, c.heads * c.head_dim)
        x = x + self.linear(norm(y, self.attn_sub_norm, c.eps), self.o)[0]
        gate, up = self.linear(norm(x, self.ffn_norm, c.eps), self.gate, self.up)
        inner = norm(gate.relu().square() * up, self.ffn_sub_norm, c.eps)
        if probe is not None:
            probe(gate, acts(inner)[0])
        return x + self.linear(inner, self.down)[0]


def rope(x, cos, sin):
    """Turns the pairs (i, i + head_dim/2) by position."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Model(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.embedding = nn.Parameter(torch.randn(c.vocab, c.width) * 0.05)
        self.blocks = nn.ModuleList([Block(c) for _ in range(c.layers)])
        self.output_norm = nn.Parameter(torch.ones(c.width))
        angle = torch.outer(torch.arange(c.context), c.theta ** (-torch.arange(0, c.head_dim, 2) / c.head_dim))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def hidden(self, tokens, probe=None):
        length = tokens.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        x = F.embedding(tokens, self.embedding)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, probe and (lambda gate, inner, i=i: probe(i, gate, inner)))
        return norm(x, self.output_norm, self.c.eps)

    def forward(self, tokens):
        """Logits in f32."""
        h = self.hidden(tokens)
        return F.linear(h.to(Block.product), self.embedding.to(Block.product)).float()

    def loss(self, tokens, targets, mask):
        """Summed loss in nats over the targets that count."""
        losses = F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten(), reduction="none")
        return (losses * mask.flatten()).sum()


def from_file(path):
    """The model of a GGUF file, in f32: int8 times trits is then exact, as in the integer kernels."""
    keys, tensors = gguf.read(path)
    key = lambda name: keys[f"{keys['general.architecture']}.{name}"]
    model = Model(
        Config(
            vocab=key("vocab_size"),
            width=key("embedding_length"),
            layers=key("block_count"),
            heads=key("attention.head_count"),
            kv_heads=key("attention.head_count_kv"),
            head_dim=key("rope.dimension_count"),
            ffn=key("feed_forward_length"),
            context=key("context_length"),
            eps=key("attention.layer_norm_rms_epsilon"),
            theta=key("rope.freq_base"),
        )
    )
    Block.product, Block.round_weights = torch.float32, staticmethod(given)
    for name, value in tensors.items():
        if isinstance(value, tuple):
            value = value[0] * np.float32(value[1])
        tensor_of(model, name).data = torch.from_numpy(value.astype(np.float32))
    return model.eval().requires_grad_(False)


#: Names of a block's parameters in GGUF, where they differ.
IN_FILE = dict(attn_q="q", attn_k="k", attn_v="v", attn_output="o", ffn_gate="gate", ffn_up="up", ffn_down="down")


def tensor_of(model, name):
    """The parameter a GGUF tensor name stands for."""
    name = name.removesuffix(".weight")
    if name.startswith("blk."):
        _, block, name = name.split(".")
        return getattr(model.blocks[int(block)], IN_FILE.get(name, name))
    return {"token_embd": model.embedding, "output_norm": model.output_norm}[name]
