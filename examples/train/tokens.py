"""The tokenizer inside a GGUF file, as the `tokenizers` library runs it."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

import gguf
from vocabulary import BOS, EOS, EOT, SPLIT


def tokenizer_of(path) -> Tokenizer:
    """Byte-level BPE with the LLaMA-3 split, from `tokenizer.ggml.*`."""
    keys, _ = gguf.read(path)
    tokens = keys["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in keys["tokenizer.ggml.merges"]]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in (BOS, EOS, EOT)])
    return tokenizer
