"""From texts to rows of tokens: the parts of the mix, and the order in which they are drawn.

A part is a list of documents; it can be laid out again for every epoch (new order, new requests). `Mix` keeps one cursor a
part and gives each row to the part that is furthest behind its share, so the same cursors always give the same rows.
"""

import random
import re

import numpy as np

import augment
import prompts
import smalltalk
import sources
from vocabulary import BOS_ID, EOS_ID, EOT_ID


class Encoder:
    """Text and conversations to tokens with a mask: 1 where the loss counts."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.memo = {}

    def text(self, text):
        ids = self.memo.get(text)
        return np.array(self.tokenizer.encode(text).ids, np.uint16) if ids is None else ids

    def learn(self, texts):
        """Encodes many texts at once, which is faster."""
        for text, code in zip(texts, self.tokenizer.encode_batch(texts)):
            self.memo[text] = np.array(code.ids, np.uint16)

    def plain(self, text):
        ids = np.concatenate([[BOS_ID], self.text(text), [EOS_ID]]).astype(np.uint16)
        return ids, np.ones(len(ids), np.uint8)

    def chat(self, messages, rng, joint=0.2):
        """A conversation in the chat template; the mask marks the assistant's words and the end of its turn.

        A chat program encodes `Assistant: ` by itself, so the space is a token of its own and the answer follows. A program
        that lays out the whole conversation again encodes earlier answers together with that space; a share `joint` of the
        conversations shows this form too, without counting it.
        """
        ids, mask = [[BOS_ID]], [[0]]

        def add(tokens, counts):
            ids.append(tokens)
            mask.append(np.full(len(tokens), counts, np.uint8))

        joint = len(messages) > 3 and rng.random() < joint
        for i, message in enumerate(messages):
            role, content = message["role"].capitalize(), message["content"].strip()
            if role == "Assistant" and not (joint and i + 1 < len(messages)):
                add(self.text("Assistant: "), 0)
                add(self.text(content), 1)
                add([EOT_ID], 1)
            else:
                add(self.text(f"{role}: {content}"), 0)
                add([EOT_ID], 0)
        return np.concatenate(ids).astype(np.uint16), np.concatenate(mask).astype(np.uint8)


def talk(user, assistant):
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def parts(encoder):
    """Every part by name: a function from an epoch's generator to its documents."""
    stories = sources.documents("tinystories-train.txt.xz")
    tales = sources.documents("fairytales.txt.xz")
    persona = sources.conversations("persona-chat.jsonl.xz")
    chitchat = sources.conversations("chitchat.jsonl.xz")
    topical = sources.conversations("topical-chat.jsonl.xz")
    short = sources.conversations("short-instructions.jsonl.xz")
    reading = readings(sources.conversations("fairytale-qa.jsonl.xz"))
    nouns = prompts.Nouns(stories)
    encoder.learn(stories)

    def chats(talks, system=1.0):
        def lay(rng):
            for messages in talks:
                if messages[0]["role"] == "system" and rng.random() >= system:
                    messages = messages[1:]
                yield encoder.chat(messages, rng)

        return lay

    def asked(rng):
        for story in stories:
            yield encoder.chat(talk(prompts.request(story, nouns, rng), story), rng)

    def heroes(rng):
        for story in stories:
            told = augment.rename(story, rng) if rng.random() < 0.5 else augment.exchange_animal(story, rng)
            messages = talk(prompts.request(told, nouns, rng, naming=0.6), told)
            if rng.random() < 0.2:
                messages = smalltalk.conversation(rng)[:4] + messages
            yield encoder.chat(messages, rng)

    def openings(rng):
        for messages in persona + chitchat:
            system = messages[:1] if messages[0]["role"] == "system" else []
            rest = messages[len(system) :]
            if len(rest) >= 2:
                turns = 2 * rng.randint(1, 2)
                yield encoder.chat((system if rng.random() < 0.3 else []) + rest[:turns], rng)

    return {
        "stories": lambda rng: (encoder.plain(story) for story in stories),
        "asked": asked,
        "heroes": heroes,
        "smalltalk": lambda rng: (encoder.chat(smalltalk.conversation(rng), rng) for _ in range(6000)),
        "tales": lambda rng: (encoder.plain(piece) for tale in tales for piece in pieces(tale)),
        "reading": lambda rng: (encoder.chat(messages, rng) for messages in shuffled_questions(reading, rng)),
        "persona": chats(persona, system=0.7),
        "openings": openings,
        "chitchat": chats(chitchat),
        "topical": chats(topical),
        "short": chats(short),
    }


def pieces(tale, size=3000):
    """Cuts a long tale at paragraph ends, about `size` letters a piece."""
    piece = ""
    for paragraph in tale.split("\n"):
        piece += paragraph + "\n"
        if len(piece) >= size:
            yield piece.strip()
            piece = ""
    if piece.strip():
        yield piece.strip()


def readings(talks):
    """Groups the questions about one passage."""
    by_passage = {}
    for user, assistant in talks:
        passage, _, question = user["content"].rpartition("\n\n")
        if len(passage) < 2400:
            by_passage.setdefault(passage, []).append((question, assistant["content"]))
    return list(by_passage.items())


def shuffled_questions(reading, rng):
    """One conversation a passage: the passage with a question, then the other questions."""
    for passage, questions in reading:
        questions = rng.sample(questions, len(questions))
        messages = []
        for i, (question, answer) in enumerate(questions):
            messages += talk(passage + "\n\n" + question if i == 0 else question, answer)
        yield messages


class Mix:
    """Draws rows from the parts by weight."""

    def __init__(self, laid, weights, seed):
        self.laid, self.weights, self.seed = laid, weights, seed
        self.epoch = {name: 0 for name in weights}
        self.cursor = {name: 0 for name in weights}
        self.drawn = {name: 0 for name in weights}
        self.streams = {}

    def stream(self, name):
        """This epoch's documents of a part, shuffled and laid end to end."""
        key = (name, self.epoch[name])
        if self.streams.get(name, (None,))[0] != key:
            rng = random.Random(f"{self.seed} {key}")
            documents = list(self.laid[name](rng))
            rng.shuffle(documents)
            ids = np.concatenate([ids for ids, _ in documents])
            mask = np.concatenate([mask for _, mask in documents])
            self.streams[name] = (key, ids, mask)
        return self.streams[name][1:]

    def row(self, length, answers_only):
        """`length` tokens, the tokens after each, and the mask of the latter."""
        total = sum(self.drawn.values()) + length
        name = max(self.weights, key=lambda n: self.weights[n] * total - self.drawn[n])
        ids, mask = self.stream(name)
        start = self.cursor[name]
        if start + length + 1 > len(ids):
            self.epoch[name] += 1
            ids, mask = self.stream(name)
            start = 0
        self.cursor[name] = start + length
        self.drawn[name] += length
        row = ids[start : start + length + 1].astype(np.int64)
        mask = mask[start + 1 : start + length + 1] if answers_only else np.ones(length, np.uint8)
        return row[:-1], row[1:], mask

    def batch(self, rows, length, answers_only):
        tokens, targets, mask = zip(*(self.row(length, answers_only) for _ in range(rows)))
        return np.stack(tokens), np.stack(targets), np.stack(mask).astype(np.float32)

    def state(self):
        return {"epoch": dict(self.epoch), "cursor": dict(self.cursor), "drawn": dict(self.drawn)}

    def restore(self, state):
        for key in ("epoch", "cursor", "drawn"):
            getattr(self, key).update(state[key])
