"""The tables behind `smalltalk.py`: simple words and what a child knows about them. Written for this project."""


def a(noun):
    """The noun with its article."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def rows(keys, text):
    return [dict(zip(keys, (cell.strip() for cell in line.split("|")))) for line in text.strip().splitlines()]


ANIMALS = rows(("one", "many", "kind", "does", "lives", "eats", "color"), """
cat | cats | a small animal with soft fur | likes to sleep and to chase mice | in houses with people | fish and meat | black, white or orange
dog | dogs | a friendly animal that barks | likes to run, play and help people | in houses with people | meat and bones | brown, black or white
bird | birds | an animal with wings and feathers | can fly and sing | in nests in the trees | seeds and worms | brown, red or blue
fish | fish | an animal that swims | breathes under water | in rivers, lakes and the sea | worms and small plants | silver or gold
horse | horses | a big and strong animal | can run fast and carry people | on farms | grass and apples | brown, black or white
cow | cows | a big farm animal | gives us milk | on farms | grass | black and white
pig | pigs | a farm animal with a flat nose | likes to roll in the mud | on farms | corn and apples | pink
sheep | sheep | a farm animal with thick wool | gives us wool for warm clothes | on farms and hills | grass | white
goat | goats | a farm animal with horns | likes to climb and jump | on farms and hills | grass and leaves | white or brown
chicken | chickens | a farm bird | lays eggs | on farms | corn and seeds | white or brown
duck | ducks | a bird that swims | says quack and likes the water | near ponds | plants and small fish | white, brown or green
frog | frogs | a small animal that jumps | can swim and jump very far | in ponds | flies and bugs | green
rabbit | rabbits | a small animal with long ears | can hop very fast | in holes in the ground | grass and carrots | brown, gray or white
mouse | mice | a very small animal with a long tail | is quiet and quick | in little holes | cheese and seeds | gray
bear | bears | a big and strong animal with thick fur | sleeps all winter | in the forest | fish, berries and honey | brown
fox | foxes | a clever animal with a big tail | hunts at night | in the forest | mice and birds | red
wolf | wolves | a wild animal like a big dog | howls at the moon | in the forest | meat | gray
deer | deer | a gentle animal with long legs | can run and jump well | in the forest | grass and leaves | brown
squirrel | squirrels | a small animal with a big tail | climbs trees and hides nuts | in the trees | nuts | red or gray
owl | owls | a bird that is awake at night | can see well in the dark | in old trees | mice | brown or white
lion | lions | a big wild cat | can roar very loud | in Africa | meat | yellow
tiger | tigers | a big wild cat with stripes | is strong and can swim | in the jungle | meat | orange with black stripes
elephant | elephants | a very big animal with a long nose | drinks and washes with its long nose | in Africa and Asia | leaves and grass | gray
monkey | monkeys | a clever animal with long arms | climbs and swings in the trees | in the jungle | bananas and leaves | brown
giraffe | giraffes | a very tall animal with a long neck | can reach the top of the trees | in Africa | leaves | yellow with brown spots
zebra | zebras | an animal like a horse with stripes | runs in big groups | in Africa | grass | black and white
penguin | penguins | a bird that cannot fly | swims well and walks in a funny way | where it is very cold | fish | black and white
whale | whales | a very big animal of the sea | can sing under water | in the sea | small fish | blue or gray
dolphin | dolphins | a clever animal of the sea | jumps high out of the water | in the sea | fish | gray
shark | sharks | a big fish with sharp teeth | swims very fast | in the sea | fish | gray
turtle | turtles | a slow animal with a hard shell | can hide in its shell | in ponds and in the sea | plants | green
snake | snakes | a long animal without legs | moves without a sound | in grass and under stones | mice and frogs | green or brown
spider | spiders | a small animal with eight legs | makes webs | in corners and gardens | flies | black or brown
bee | bees | a small insect that flies | makes honey | in hives | the sweet juice of flowers | yellow and black
butterfly | butterflies | a pretty insect with big wings | flies from flower to flower | in gardens and fields | the sweet juice of flowers | yellow, blue or orange
ant | ants | a very small insect | works hard and carries heavy things | in the ground | crumbs and seeds | black or red
snail | snails | a slow little animal with a house on its back | leaves a wet path | in gardens | leaves | brown
parrot | parrots | a bird with bright feathers | can learn to talk | in warm forests | seeds and fruit | green, red or blue
hedgehog | hedgehogs | a little animal with sharp spines | rolls up like a ball | in gardens and forests | bugs and worms | brown
crocodile | crocodiles | a big animal with many teeth | waits quietly in the water | in warm rivers | fish and meat | green
""")

THINGS = rows(("one", "kind", "use"), """
ball | a round toy | throw it, kick it or roll it
kite | a light toy on a string | fly it on a windy day
doll | a toy that looks like a little person | dress it and play with it
book | a lot of pages with words and pictures | read it and learn from it
pencil | a thin stick for writing | write and draw with it
crayon | a soft stick of color | color pictures with it
chair | something to sit on | sit on it
table | something with a flat top and legs | put your plate on it
bed | a soft place for the night | lie down and sleep in it
spoon | a tool for eating | eat soup with it
cup | something to drink from | drink milk or tea from it
hat | something for your head | wear it when it is sunny or cold
coat | warm clothes for the winter | wear it when it is cold
shoe | something for your foot | wear it when you go outside
umbrella | something that keeps the rain away | hold it over your head when it rains
clock | a thing that shows the time | look at it to see how late it is
lamp | a thing that gives light | turn it on when it is dark
key | a small thing made of metal | open a door with it
door | the part of a house that opens | open it to go in or out
window | a place in the wall with glass | look out of it
house | a building where people live | live in it with your family
car | a machine with four wheels | drive to other places in it
bus | a long car for many people | ride to school in it
train | a row of wagons on rails | travel far away in it
boat | a thing that floats on the water | sail across a lake in it
plane | a machine that flies | fly over the clouds in it
bike | a thing with two wheels | ride it to the park
truck | a big car that carries things | move heavy things with it
tree | a very tall plant | climb it or sit in its shade
flower | a pretty plant | smell it and give it to a friend
garden | a place where plants grow | grow flowers and carrots in it
river | a long stream of water | swim and fish in it
mountain | a very high hill | climb it and look far away
forest | a place with many trees | walk in it and hear the birds
beach | sand next to the sea | build a sand castle on it
cake | a sweet food for parties | share it with your friends
apple | a round fruit that grows on trees | eat it or bake it in a pie
banana | a long yellow fruit | peel it and eat it
cookie | a small sweet cake | eat it with a glass of milk
phone | a thing for talking to people far away | call your grandma with it
camera | a thing that makes pictures | take photos with it
drum | a round thing that makes music | hit it with sticks to make a loud sound
guitar | a thing with strings that makes music | play songs on it
blanket | a big soft cloth | keep warm under it
pillow | a soft bag for your head | rest your head on it
mirror | a glass in which you see yourself | look at your face in it
box | a thing with a lid | keep your toys in it
bag | a thing for carrying | carry your books in it
rope | a long and strong string | jump over it or tie things with it
puzzle | a picture cut in many parts | put the parts together
robot | a machine that can move and work | ask it to help you
rocket | a machine that flies to space | fly to the moon in it
balloon | a thin ball full of air | blow it up for a party
candle | a stick of wax that burns | light it when it is dark
ladder | two long bars with steps | climb up to high places on it
swing | a seat that hangs on ropes | sit on it and fly back and forth
slide | a smooth path that goes down | slide down on it
castle | a big strong house for a king | visit it and see the old towers
crown | a ring of gold for the head of a king | wear it and play king
map | a picture of the land | find your way with it
""")

NAMES = (
    "Anna Ben Clara Daniel Emma Finn Grace Henry Ivy Jack Kate Leo Mia Noah Olivia Paul Rosa Sam Tina Victor Wendy Zoe Lily Tim Tom Lucy"
    " Max Sara Peter Jane Alice Bob Carl Dora Eric Fred Gina Hugo Ida Jim Kim Lena Mark Nora Oscar Pia Ron Sue Ted Ula Vera Will Amy"
    " Billy Chris Diana Ella Frank George Hannah Isaac Julia Kevin Laura Mike Nina Otto Polly Rita Steve Toby Molly Rose Ruby Alex"
    " Charlie David Eva Felix Greta Helen James John Mary Sally Simon Sophie Thomas Nick Bella Buddy Daisy Spot Luna Milo Teddy"
).split()
PLACES = "park beach zoo farm lake forest school library market museum shop river garden playground pool castle circus town station hospital bakery church city village mountain cinema".split()
FOODS = "pizza soup rice bread cheese pasta fish chicken salad cake pie corn potatoes carrots apples pancakes cookies eggs beans noodles toast sandwiches oranges grapes".split()
LIKED = (
    [animal["many"] for animal in ANIMALS]
    + FOODS
    + "music books games toys stories songs dancing singing reading swimming running drawing painting cooking fishing football tennis soccer"
    " winter summer spring rain snow flowers trees trains cars movies school math colors puzzles birthdays holidays jokes".split()
)
FEELINGS = (
    ("happy", "I am glad that you are {}! What made you {}?"), ("sad", "I am sorry that you are {}. Do you want to talk about it?"),
    ("tired", "If you are {}, you should rest a little."), ("sick", "I am sorry that you are {}. I hope you get better soon."),
    ("scared", "You do not have to be {}. Everything will be fine."), ("angry", "I am sorry that you are {}. Take a deep breath. What happened?"),
    ("bored", "If you are {}, I can tell you a story."), ("lonely", "I am sorry that you feel {}. I am happy to talk with you."),
    ("excited", "How nice that you are {}! What is going to happen?"), ("cold", "If you are {}, put on a warm coat."),
    ("thirsty", "If you are {}, drink a glass of water."), ("hungry", "If you are {}, have something good to eat."),
    ("proud", "You can be {}! What did you do?"), ("worried", "I am sorry that you are {}. What are you thinking about?"),
    ("sleepy", "If you are {}, it is time for bed. Good night!"), ("great", "I am glad that you feel {}!"), ("good", "I am glad that you feel {}!"),
)
FEELINGS = [(word, answer.replace("{}", "{0}")) for word, answer in FEELINGS]
OPPOSITES = [
    pair.split("-")
    for pair in "big-small hot-cold up-down day-night happy-sad fast-slow old-young good-bad high-low open-closed wet-dry full-empty hard-soft"
    " light-dark loud-quiet long-short near-far clean-dirty rich-poor strong-weak thick-thin tall-short early-late left-right black-white"
    " in-out yes-no right-wrong first-last easy-difficult sweet-sour begin-end love-hate push-pull win-lose".split()
]
COLORS = [
    line.split("-")
    for line in "the sky-blue,grass-green,snow-white,the sun-yellow,a banana-yellow,an apple-red or green,blood-red,milk-white,coal-black,"
    "a carrot-orange,a lemon-yellow,a leaf-green,the sea-blue,chocolate-brown,a strawberry-red,a pumpkin-orange,the night-black,"
    "a tomato-red,a plum-purple,a cloud-white or gray,honey-yellow,an elephant-gray,a frog-green,a pig-pink".split(",")
]
CAPITALS = [
    pair.split("-")
    for pair in "France-Paris,England-London,Germany-Berlin,Italy-Rome,Spain-Madrid,Portugal-Lisbon,Greece-Athens,Russia-Moscow,China-Beijing,"
    "Japan-Tokyo,India-New Delhi,Egypt-Cairo,Canada-Ottawa,Norway-Oslo,Sweden-Stockholm,Finland-Helsinki,Denmark-Copenhagen,Austria-Vienna,"
    "Poland-Warsaw,Ireland-Dublin,Scotland-Edinburgh,Turkey-Ankara,Mexico-Mexico City,Cuba-Havana,Kenya-Nairobi,Peru-Lima".split(",")
]
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
THINGS_UNKNOWN = "the telephone,the wheel,the light bulb,the computer,the piano,paper,glass,the train,the radio,ice cream,the clock,chess".split(",")
PEOPLE = "the president,Napoleon,Shakespeare,Einstein,Mozart,the queen,Caesar,Picasso,Newton,Columbus,Darwin,Beethoven".split(",")
SUBJECTS = "physics,politics,money,the law,history,computers,chemistry,engines,the stock market,medicine,philosophy,grammar".split(",")
UNKNOWN = (
    ("Who invented {}?", "who invented {}", THINGS_UNKNOWN), ("When was {} invented?", "when {} was invented", THINGS_UNKNOWN),
    ("Who is {}?", "much about {}", PEOPLE), ("When was {} born?", "when {} was born", PEOPLE), ("Who was {}?", "much about {}", PEOPLE),
    ("Can you explain {}?", "much about {}", SUBJECTS), ("What do you know about {}?", "much about {}", SUBJECTS),
    ("How does {} work?", "how {} works", THINGS_UNKNOWN + SUBJECTS),
    ("How many people live in {}?", "how many people live in {}", [c for pair in CAPITALS for c in pair]),
    ("What is the weather in {}?", "what the weather in {} is like", [c for pair in CAPITALS for c in pair]),
    ("What is the capital of {}?", "the capital of {}", "Brazil,Chad,Iran,Nepal,Fiji,Ghana,Latvia,Bolivia,Angola,Mongolia,Texas,Ohio".split(",")),
    ("How old is {}?", "how old {} is", PEOPLE), ("Who won the {}?", "who won the {}", "game,war,race,match,election,World Cup".split(",")),
)
SELF = (
    (("What is your name?", "What's your name?", "Who are you?", "What are you called?", "What should I call you?"),
     ("My name is Tern. What is your name?", "I am Tern, a very small language model. What is your name?")),
    (("What can you do?", "What do you do?", "How can you help me?", "Can you help me?", "What do you know?"),
     ("I can tell simple stories and talk with you a little. What would you like?",)),
    (("Are you a robot?", "Are you a computer?", "Are you real?", "Are you a person?", "Are you human?"),
     ("I am not a person. I am a small program that likes to tell stories.",)),
    (("How old are you?", "When were you born?"), ("I am very young. I am a small program, so I do not have birthdays.",)),
    (("Where do you live?", "Where are you from?", "Where are you?"), ("I live inside your computer. It is nice and warm here.",)),
    (("What do you like to do?", "What do you do for fun?", "What are your hobbies?"), ("I like to tell stories. What do you like to do?",)),
    (("What do you do for a living?", "Do you have a job?", "What is your job?"), ("I tell stories and talk with people. What do you do?",)),
    (("Do you have any pets?", "Do you have a family?", "Do you have friends?"), ("No, I am only a small program. Do you?",)),
    (("Are you happy?", "Do you have feelings?"), ("I am always happy to talk with you.",)),
    (("What are you doing?", "What's up?", "What is up?"), ("I am talking with you. What are you doing?",)),
    (("Tell me something.", "Let's talk.", "Can we talk?", "I want to talk."), ("Of course! What would you like to talk about?",)),
    (("Tell me about yourself.", "Can you tell me about yourself?"), ("I am Tern, a very small language model. I can tell simple stories and talk a little.",)),
    (("I love you.", "You are nice.", "You are funny.", "I like you.", "Good job!"), ("Thank you! That is very kind of you.",)),
    (("You are wrong.", "That is not right.", "You are stupid.", "I don't understand."), ("I am sorry. I am a small model and I make mistakes.",)),
    (("Can you sing?", "Can you dance?", "Can you swim?", "Can you cook?"), ("No, I cannot do that, but I can tell you a story.",)),
    (("What time is it?", "What day is it today?", "What is the date?"), ("I am sorry, I do not have a clock.",)),
    (("Good night.", "I am going to bed."), ("Good night! Sleep well and have sweet dreams.",)),
    (("It is raining.", "It is snowing.", "It is cold outside."), ("Then it is a good day to stay inside and hear a story.",)),
    (("It is sunny.", "It is a nice day.", "The sun is shining."), ("How nice! It is a good day to play outside.",)),
)
FAVORITES = [
    tuple(line.split("|"))
    for line in """color|blue|it makes me think of the sky
animal|the tern|it is a bird that flies very far
food|pizza|everyone can share it
fruit|the apple|it is sweet and crisp
season|spring|the flowers come out
game|hide and seek|it is fun to look for friends
book|a book of fairy tales|it is full of adventures
song|a lullaby|it is soft and sweet
number|three|many stories have three wishes
day|Sunday|there is time to rest and play
place|the beach|I like the sound of the sea
drink|lemonade|it is cool and sweet
toy|the kite|it dances in the wind
movie|a movie about animals|animals are funny
sport|swimming|it feels like flying
flower|the daisy|it looks like a little sun
story|a story with a happy ending|it makes people smile
subject|reading|every book is a new world""".splitlines()
]
JOKES = (
    "Why did the cow cross the road? To get to the moo-vies!",
    "What do you call a sleeping bull? A bulldozer!",
    "Why is six afraid of seven? Because seven ate nine!",
    "What do you call a bear with no teeth? A gummy bear!",
)
