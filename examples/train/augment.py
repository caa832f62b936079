"""The same story with another hero: names and animals exchanged throughout.

TinyStories calls most girls Lily and most dogs Spot. Where the request names the hero, an exchanged name makes the model read
the request instead of guessing.
"""

import random
import re

import facts

GIRLS = (
    "Anna Clara Emma Grace Ivy Kate Mia Olivia Rosa Tina Wendy Zoe Lily Lucy Sara Jane Alice Dora Gina Lena Nora Sue Amy Diana Ella Hannah"
    " Julia Laura Nina Polly Rita Molly Rose Ruby Eva Greta Helen Mary Sally Sophie Bella Daisy Luna Lisa Ann Mandy Jill Betty"
).split()
BOYS = (
    "Ben Daniel Finn Henry Jack Leo Noah Paul Sam Victor Tim Tom Max Peter Bob Carl Eric Fred Hugo Jim Mark Oscar Ron Ted Will Billy"
    " Chris Frank George Isaac Kevin Mike Steve Toby Alex David Felix James John Simon Thomas Nick Milo Joe Jimmy Timmy Tommy Johnny"
).split()
#: Exchanged for one another; not all make sense, and that is what a story is for.
ANIMALS = (
    "cat dog bird rabbit bunny bear fox frog duck lion tiger elephant monkey owl penguin turtle squirrel horse pig cow goat robot"
    " dragon dinosaur giraffe kitten puppy deer snail parrot hedgehog pony whale dolphin"
).split()
KIND = re.compile(r"\b(boy|girl) (?:named|called) ([A-Z][a-z]+)\b")
ANIMAL = re.compile(r"\b(" + "|".join(ANIMALS) + r")\b")


def rename(story: str, rng: random.Random) -> str:
    """Gives the hero, if a boy or girl, another name."""
    found = KIND.search(story)
    if not found:
        return story
    kind, old = found.groups()
    new = rng.choice(GIRLS if kind == "girl" else BOYS)
    return story if new in story else re.sub(rf"\b{old}\b", new, story)


def exchange_animal(story: str, rng: random.Random) -> str:
    """Makes the first animal that is named, if the story is about it, another one."""
    found = ANIMAL.search(story)
    if not found or len(re.findall(rf"\b{found[0]}\b", story)) < 3:
        return story
    old, new = found[0], rng.choice(ANIMALS)
    if re.search(rf"\b{new}s?\b", story, re.IGNORECASE):
        return story
    story = re.sub(rf"\ban? {old}\b", facts.a(new), story)
    story = re.sub(rf"\bAn? {old}\b", facts.a(new).capitalize(), story)
    story = re.sub(rf"\b{old}(s?)\b", new + r"\1", story)
    return re.sub(rf"\b{old.capitalize()}(s?)\b", new.capitalize() + r"\1", story)
