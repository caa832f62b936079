"""The tokenizer: byte-level BPE with the LLaMA-3 split, learned from the training texts, and the chat template."""

import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers, decoders

import sources

SIZE = 4096
BOS, EOS, EOT = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
BOS_ID, EOS_ID, EOT_ID = SIZE - 3, SIZE - 2, SIZE - 1

#: The split of LLaMA-3: `tokenizer.ggml.pre` = "llama-bpe".
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

#: The template of BitNet b1.58 2B4T: `User: hi<|eot_id|>Assistant: `.
CHAT_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = message['role'] | capitalize + ': '+ message['content'] | trim + '<|eot_id|>' %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)


def load(path: Path) -> Tokenizer:
    """Opens the tokenizer at `path`, learning it first if it is not there."""
    if not path.exists():
        learn().save(str(path))
    return Tokenizer.from_file(str(path))


def learn() -> Tokenizer:
    """Learns the merges. Stories count twice, chat and fairy tales once, the noisier sets in part."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - 3,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    if tokenizer.get_vocab_size() != SIZE - 3:
        raise SystemExit(f"the tokenizer learned {tokenizer.get_vocab_size()} tokens, wanted {SIZE - 3}")
    tokenizer.add_special_tokens([BOS, EOS, EOT])
    assert [tokenizer.token_to_id(t) for t in (BOS, EOS, EOT)] == [BOS_ID, EOS_ID, EOT_ID]
    return tokenizer


def corpus() -> list[str]:
    """The texts the merges are learned from."""
    stories = sources.documents("tinystories-train.txt.xz")
    texts = stories + stories + sources.documents("fairytales.txt.xz")
    for name, share in (
        ("persona-chat.jsonl.xz", 1.0),
        ("short-instructions.jsonl.xz", 1.0),
        ("chitchat.jsonl.xz", 0.3),
        ("topical-chat.jsonl.xz", 0.2),
    ):
        talks = sources.conversations(name)
        talks = random.Random(1).sample(talks, int(len(talks) * share))
        texts += [message["content"] for talk in talks for message in talk]
    return texts
