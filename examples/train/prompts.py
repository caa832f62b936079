"""Requests made from stories: "Tell me a story about a dog." for a story in which the dog matters.

The nouns are found by counting, without a word list: a noun often stands after "the" and before a full stop, a comma or a
small word ("the dog was"), an adjective does not ("the big dog").
"""

import math
import random
import re
from collections import Counter

WORD = re.compile(r"[A-Za-z]+|[.,!?;\"\n]")
BEFORE = {"a", "an", "the", "his", "her", "their", "my", "your"}
AFTER = set(".,!?;\"\n") | set(
    "and was is to in with that of on had who said for at from but so he she they it were could would when because as into"
    " went came did has by or up very too all ran looked asked saw wanted loved liked felt started".split()
)
#: Nouns by that count which say nothing about a story.
VAGUE = set(
    "day time end way one other others morning moral side back top thing things something most first next same rest front"
    " story best lot bit little idea name fun while moment answer world place part middle problem lesson inside outside"
    " people surprise hand hands face head eyes mouth heart body arms smile voice night week year afternoon minute hour friend"
    " friends home job not itch bite cut cry help click giggle".split()
)
KIND = re.compile(r"\b(boy|girl|dog|cat|bird|bear|rabbit|bunny|mouse|man|woman|fish|fox|frog|lion|duck|princess) (?:named|called) ([A-Z][a-z]+)")


class Nouns:
    """Which words of the stories are nouns, and how rare each is."""

    def __init__(self, stories):
        seen, noun, documents, self.single = Counter(), Counter(), Counter(), set()
        for story in stories:
            words = WORD.findall(story)
            for before, word, after in zip(words, words[1:], words[2:]):
                if before.lower() in BEFORE and word.isalpha() and word.islower():
                    seen[word] += 1
                    noun[word] += after.lower() in AFTER
                    if before.lower() in ("a", "an") and after.lower() in AFTER:
                        self.single.add(word)
            documents.update(set(words))
        self.weight = {
            word: math.log(len(stories) / documents[word])
            for word, count in seen.items()
            if count >= 8 and noun[word] >= 0.7 * count and word not in VAGUE and len(word) > 2
        }

    def topics(self, story, most=3):
        """The nouns that matter in this story, best first: they come early, more than once, and are rare elsewhere."""
        words = WORD.findall(story)
        counts = Counter(words)
        early, first = set(words[: len(words) * 2 // 5]), set(words[:25])
        scored = [
            (min(counts[w], 5) * self.weight[w] * (1.5 if w in first else 1), w)
            for w in sorted(early)
            if w in self.weight and counts[w] > 1
        ]
        return [word for _, word in sorted(scored, reverse=True)[:most]]



    def a(self, noun):
        """The noun with its article, if it takes one."""
        if noun not in self.single:
            return noun
        return ("an " if noun[0] in "aeiou" else "a ") + noun


REQUESTS = (
    ("Tell me a story about {}.", 6),
    ("Please tell me a story about {}.", 2),
    ("Can you tell me a story about {}?", 3),
    ("Could you tell me a story about {}, please?", 1),
    ("Write a story about {}.", 3),
    ("Write a short story about {}.", 3),
    ("I want to hear a story about {}.", 1),
    ("I would like a story about {}.", 1),
    ("A story about {}, please.", 1),
    ("Do you know a story about {}?", 1),
    ("tell me a story about {}", 1),
)
PLAIN = (
    "Tell me a story.",
    "Can you tell me a story?",
    "Please tell me a story.",
    "Tell me a short story.",
    "Write a story.",
    "I want to hear a story.",
    "Tell me a bedtime story.",
    "Do you know a good story?",
)


def request(story: str, nouns: Nouns, rng: random.Random, naming: float = 0.24) -> str:
    """A request this story answers; a share `naming` gives the hero's name, where there is one."""
    topics = nouns.topics(story)
    named = KIND.search(story)
    dice = rng.random()
    if dice < 0.06 or not (topics or named):
        return rng.choice(PLAIN)
    if named and (dice < 0.06 + naming or not topics):
        kind, name = named.groups()
        subject = rng.choice((f"a {kind} named {name}", f"a {kind} called {name}", f"{name} the {kind}"))
        if topics and topics[0] != kind and rng.random() < 0.4:
            subject += f" and {nouns.a(topics[0])}"
    elif len(topics) > 1 and dice < 0.65:
        pair = topics[:2] if rng.random() < 0.7 else rng.sample(topics, 2)
        if rng.random() < 0.5:
            pair = pair[::-1]
        subject = f"{nouns.a(pair[0])} and {nouns.a(pair[1])}"
    else:
        subject = nouns.a(topics[0] if rng.random() < 0.7 else rng.choice(topics))
    forms, weights = zip(*REQUESTS)
    return rng.choices(forms, weights)[0].format(subject)
