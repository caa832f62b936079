"""The numbers of the training run: shape, rates, stages and mix."""

from dataclasses import dataclass, field

from model import Config

SEED = 1
CONFIG = Config(vocab=4096, width=256, layers=6, heads=4, kv_heads=2, head_dim=64, ffn=768, context=512)
NAME = "tern-s"

#: Rate of Muon (ternary matrices) and of Adam (embedding, gains); decay of the ternary matrices.
MUON_RATE, ADAM_RATE, DECAY = 0.02, 3e-3, 0.02
WARMUP = 100


@dataclass
class Stage:
    """A stretch of training with one mix. The rate goes in a line from `rate[0]` to `rate[1]` times the peak."""

    name: str
    steps: int
    rows: int
    length: int
    rate: tuple
    answers_only: bool
    weights: dict = field(default_factory=dict)


STAGES = [
    # Everything is read, requests too. 8,192 tokens a step.
    Stage(
        "read", 477, 32, 256, (1.0, 1.0), False,
        dict(stories=0.40, asked=0.24, tales=0.06, reading=0.04, persona=0.13, openings=0.05, chitchat=0.04, topical=0.02, short=0.02),
    ),
    # More stories, some of them with other heroes.
    Stage(
        "grow", 383, 32, 256, (1.0, 1.0), False,
        dict(stories=0.42, asked=0.12, heroes=0.20, tales=0.04, reading=0.02, persona=0.09, openings=0.04, smalltalk=0.03, chitchat=0.02, short=0.02),
    ),
    # Much of the same, with the other heroes for variety: the stories are few and read often.
    Stage(
        "more", 1250, 32, 256, (1.0, 1.0), False,
        dict(stories=0.43, asked=0.15, heroes=0.20, tales=0.03, reading=0.01, persona=0.08, openings=0.04, smalltalk=0.04, chitchat=0.01, short=0.01),
    ),
    # The rate falls, and there is more talk.
    Stage(
        "turn", 1000, 32, 256, (1.0, 0.35), False,
        dict(stories=0.42, asked=0.15, heroes=0.20, tales=0.02, reading=0.01, persona=0.08, openings=0.04, smalltalk=0.06, chitchat=0.01, short=0.01),
    ),
    # The whole context; in conversations only the assistant's words count.
    Stage(
        "settle", 200, 16, 512, (0.35, 0.2), True,
        dict(stories=0.38, asked=0.14, heroes=0.20, tales=0.02, reading=0.01, persona=0.08, openings=0.04, smalltalk=0.10, chitchat=0.01, short=0.02),
    ),
    # The same, faster to zero.
    Stage(
        "finish", 150, 16, 512, (0.2, 0.0), True,
        dict(stories=0.38, asked=0.14, heroes=0.20, tales=0.02, reading=0.01, persona=0.08, openings=0.04, smalltalk=0.10, chitchat=0.01, short=0.02),
    ),
]
