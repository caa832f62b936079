"""Short polite conversations, put together from the tables in `facts.py`.

Most answers repeat a word of the question (a name, a thing, a place), and the words come from long lists: a small model
cannot learn them all by heart and has to look back at what was said.
"""

import random

import facts

HELLO = ("Hi!", "Hello!", "Hello.", "Hi there!", "Hey!", "Good morning!", "Good evening!", "hi", "hello", "Hey there!")
HOW = ("How are you?", "How are you today?", "How are you doing?", "How is it going?", "How do you feel today?")
FINE = (
    "I am fine, thank you! How are you?",
    "I am doing well, thank you. How are you today?",
    "I am very well, thank you for asking! What can I do for you?",
)
THANKS = ("Thank you!", "Thanks!", "Thank you very much.", "Thank you for your help.", "Thanks a lot!", "That was nice, thank you.")
WELCOME = ("You are welcome!", "You are welcome! I am happy to help.", "You are very welcome. Is there anything else you would like?")
BYE = ("Goodbye!", "Bye!", "Bye bye!", "Good night!", "See you later!", "I have to go now.", "Goodbye, Tern!", "Thank you! Goodbye.")
FAREWELL = ("Goodbye! Have a nice day!", "Goodbye! It was nice talking to you.", "Bye! See you soon!", "Goodbye! Come back any time.")
SYSTEM = ("You are a helpful assistant.", "You are a kind and polite assistant.", "You are Tern, a friendly little assistant.", "Be polite and brief.")


def exchange(rng: random.Random) -> list[tuple[str, str]]:
    """One question and its answer, or two that belong together."""
    makers, weights = zip(*KINDS)
    return rng.choices(makers, weights)[0](rng)


def conversation(rng: random.Random) -> list[dict]:
    """One to four exchanges, sometimes with a greeting, thanks and a goodbye around them."""
    pairs = []
    if rng.random() < 0.25:
        pairs += greeting(rng)
    for _ in range(rng.choices((1, 2, 3, 4), (5, 3, 2, 1))[0]):
        pairs += exchange(rng)
    if rng.random() < 0.15:
        pairs.append((rng.choice(THANKS), rng.choice(WELCOME)))
    if rng.random() < 0.15:
        pairs.append((rng.choice(BYE), rng.choice(FAREWELL)))
    messages = [{"role": "system", "content": rng.choice(SYSTEM)}] if rng.random() < 0.2 else []
    for user, assistant in pairs:
        if rng.random() < 0.08:
            user = user.rstrip("?.!").lower()
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return messages


def greeting(rng):
    dice = rng.random()
    if dice < 0.35:
        return [(rng.choice(HELLO), rng.choice(("Hello! How are you today?", "Hello! It is nice to meet you. How can I help?")))]
    ask = rng.choice(HOW) if dice < 0.6 else f"{rng.choice(HELLO)} {rng.choice(HOW)}"
    return [(ask, rng.choice(FINE))]


def name(rng):
    name = rng.choice(facts.NAMES)
    told = rng.choice(("My name is {}.", "I am {}.", "Hi, my name is {}.", "Hello, I am {}.", "You can call me {}.")).format(name)
    if rng.random() < 0.4:
        told += rng.choice((" What is your name?", " Who are you?", " And you?"))
        answer = f"Nice to meet you, {name}! My name is Tern."
    else:
        answer = rng.choice((f"Nice to meet you, {name}! How are you today?", f"Hello, {name}! It is nice to meet you."))
    pairs = [(told, answer)]
    if rng.random() < 0.5:
        if rng.random() < 0.5:
            pairs += rng.choice((likes, went, ate, about_animal))(rng)
        ask = rng.choice(("What is my name?", "Do you remember my name?", "Can you say my name?"))
        pairs.append((ask, f"Your name is {name}."))
    return pairs


def pet(rng):
    name, animal = rng.choice(facts.NAMES), rng.choice(facts.ANIMALS)["one"]
    told = rng.choice(("I have {} named {}.", "I have {} called {}.", "My friend has {} named {}.")).format(facts.a(animal), name)
    answer = rng.choice((f"That is nice! What does {name} like to do?", f"How lovely! I would like to meet {name} the {animal}."))
    pairs = [(told, answer)]
    if rng.random() < 0.5:
        pairs.append(rng.choice(((f"What is the name of the {animal}?", f"The {animal} is named {name}."), (f"Who is {name}?", f"{name} is {facts.a(animal)}."))))
    return pairs


def likes(rng):
    thing = rng.choice(facts.LIKED)
    return [rng.choice((
        (f"I like {thing}.", f"I like {thing} too! What do you like most about {thing}?"),
        (f"I love {thing}!", f"That is great! Why do you love {thing}?"),
        (f"Do you like {thing}?", f"Yes, I like {thing} very much. Do you like {thing} too?"),
        (f"I do not like {thing}.", f"That is all right. Not everyone likes {thing}. What do you like?"),
        (f"What do you think about {thing}?", f"I think {thing} can be a lot of fun. What do you think about {thing}?"),
    ))]


def went(rng):
    place, thing = rng.choice(facts.PLACES), rng.choice(facts.THINGS)["one"]
    return [rng.choice((
        (f"I went to the {place} today.", f"That sounds like fun! What did you do at the {place}?"),
        (f"I am going to the {place} tomorrow.", f"How nice! I hope you have a good time at the {place}."),
        (f"Today I saw {facts.a(thing)} at the {place}.", f"How nice! What did the {thing} at the {place} look like?"),
        (f"My mom gave me {facts.a(thing)}.", f"That was kind of her! What will you do with the {thing}?"),
        (f"I lost my {thing}.", f"I am sorry that you lost your {thing}. I hope you find it soon."),
        (f"I am sad because I broke my {thing}.", f"I am sorry about your {thing}. Maybe someone can help you fix it."),
        (f"I got a new {thing} for my birthday!", f"Happy birthday! I hope you like your new {thing}."),
        (f"Can I have {facts.a(thing)}?", f"I am sorry, I cannot give you {facts.a(thing)}, but I can tell you a story about {facts.a(thing)}."),
    ))]


def ate(rng):
    food = rng.choice(facts.FOODS)
    return [rng.choice((
        (f"I ate {food} today.", f"Yum! I hope the {food} tasted good."),
        (f"I am hungry.", f"Maybe you can have some {food}. What would you like to eat?"),
        (f"My favorite food is {food}.", f"Good choice! Many people like {food}."),
        (f"We are having {food} for dinner.", f"That sounds tasty! Enjoy the {food}."),
    ))]


def feeling(rng):
    word, answer = rng.choice(facts.FEELINGS)
    told = rng.choice(("I am {}.", "I feel {}.", "I feel {} today.", "I am so {}.", "I am a little {}.")).format(word)
    return [(told, answer.format(word))]


def about_animal(rng):
    animal = rng.choice(facts.ANIMALS)
    one, many = animal["one"], animal["many"]
    is_what = f"{facts.a(one).capitalize()} is {animal['kind']}. It {animal['does']}."
    pairs = [
        (f"What is {facts.a(one)}?", is_what),
        (f"Tell me about {many}.", f"{many.capitalize()} live {animal['lives']}. They eat {animal['eats']}."),
        (f"Where do {many} live?", f"{many.capitalize()} live {animal['lives']}."),
        (f"What do {many} eat?", f"{many.capitalize()} eat {animal['eats']}."),
        (f"What color is {facts.a(one)}?", f"{facts.a(one).capitalize()} is often {animal['color']}."),
    ]
    return rng.sample(pairs, 2 if rng.random() < 0.25 else 1)


def about_thing(rng):
    thing = rng.choice(facts.THINGS)
    one = facts.a(thing["one"])
    return [rng.choice((
        (f"What is {one}?", f"{one.capitalize()} is {thing['kind']}. You can {thing['use']}."),
        (f"What can I do with {one}?", f"You can {thing['use']}."),
        (f"Tell me about {one}.", f"{one.capitalize()} is {thing['kind']}. You can {thing['use']}."),
        (f"What is {one} for?", f"With {one} you can {thing['use'].replace(' it', '').strip()}." if " it" not in thing["use"] else f"You can {thing['use']}."),
    ))]


def known(rng):
    kind = rng.random()
    if kind < 0.25:
        left, right = rng.choice(facts.OPPOSITES)
        if rng.random() < 0.5:
            left, right = right, left
        return [(f"What is the opposite of {left}?", f"The opposite of {left} is {right}.")]
    if kind < 0.45:
        thing, color = rng.choice(facts.COLORS)
        return [(f"What color {'are' if thing.endswith('s') and thing != 'grass' else 'is'} {thing}?", f"{thing.capitalize()} {'are' if thing.endswith('s') and thing != 'grass' else 'is'} {color}.")]
    if kind < 0.65:
        country, city = rng.choice(facts.CAPITALS)
        return [(f"What is the capital of {country}?", f"The capital of {country} is {city}.")]
    if kind < 0.85:
        a, b = rng.randint(0, 5), rng.randint(0, 5)
        return [rng.choice(((f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."), (f"How much is {a} + {b}?", f"{a} + {b} is {a + b}.")))]
    day = rng.randrange(7)
    return [(f"What day comes after {facts.DAYS[day]}?", f"After {facts.DAYS[day]} comes {facts.DAYS[(day + 1) % 7]}.")]


def unknown(rng):
    """Questions about the wide world: the honest answer names what was asked."""
    form, answer, words = rng.choice(facts.UNKNOWN)
    word = rng.choice(words)
    end = rng.choice(("I am a very small model.", "I only know simple things.", "Shall I tell you a story instead?"))
    return [(form.format(word), f"I am sorry, I do not know {answer.format(word)}. {end}")]


def self_(rng):
    asks, answers = rng.choice(facts.SELF)
    return [(rng.choice(asks), rng.choice(answers))]


def favorite(rng):
    word, value, reason = rng.choice(facts.FAVORITES)
    ask = rng.choice(("What is your favorite {}?", "What's your favorite {}?", "Do you have a favorite {}?", "Tell me your favorite {}.")).format(word)
    return [(ask, f"My favorite {word} is {value}, because {reason}. What is your favorite {word}?")]


def joke(rng):
    return [(rng.choice(("Tell me a joke.", "Do you know a joke?", "Can you tell me a joke?", "Say something funny.")), rng.choice(facts.JOKES))]


KINDS = (
    (greeting, 3), (name, 3), (pet, 2), (likes, 3), (went, 3), (ate, 1.5), (feeling, 2), (about_animal, 4), (about_thing, 4),
    (known, 3), (unknown, 2), (self_, 3), (favorite, 2), (joke, 0.5),
)
