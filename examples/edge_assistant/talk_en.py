"""Owns English small talk: each intent's phrasings, as patterns of `phrases_en`, and its one answer. No logic.

`{label}` is a free word or two, `{n}` a number.
"""

TALK: dict[str, tuple[list[str], str]] = {
    "hello": (
        [
            "(hello|hi|hey|hiya|howdy|greetings)",
            "(hello|hi|hey) (there|you|again|assistant|everyone|robot|my friend)",
            "(hello|hi|hey) (how do you do|nice to meet you|pleased to meet you|it's me|I am back)",
            "(nice|pleased|good) to (meet|see) you",
            "good (day|afternoon)",
            "(are you there|anybody here|is anyone there|hello is someone there)",
        ],
        "Hello! What can I do for you?",
    ),
    "morning": (
        ["good morning", "(good morning|morning) (to you|assistant|everyone|house|sunshine)", "(I just|I have just) woken up"],
        "Good morning! What can I do for you?",
    ),
    "evening": (["good evening", "good evening (to you|assistant|everyone|house)"], "Good evening! What can I do for you?"),
    "how": (
        [
            "how are you (doing|today|feeling|this morning|tonight|)",
            "(how's it going|how is it going|how do you feel|how have you been|what's up|how are things|how goes it)",
            "are you (well|okay|alright|fine|happy|doing well) (today|)",
            "(hello|hi|hey) how are you (doing|today|)",
            "(is everything|everything) (fine|okay|alright|good) (with you|)",
            "did you sleep well",
        ],
        "I am fine, thank you. What can I do for you?",
    ),
    "thanks": (
        [
            "(thanks|thank you|cheers|many thanks)",
            "(thanks|thank you) (so much|very much|a lot|again|for your help|for that|for everything|my friend|assistant)",
            "(that's|that is|this was|it was) (very|so|really|) (kind|nice|helpful) (of you|)",
            "I (really|) appreciate (it|that|your help)",
            "(great|perfect|good|okay) (thanks|thank you)",
        ],
        "You are welcome.",
    ),
    "bye": (
        [
            "(bye|goodbye|bye bye|see you|farewell|ciao|take care)",
            "(bye|goodbye|see you) (now|later|soon|tomorrow|then|for now|assistant|my friend)",
            "(I have|I've got|I need) to (go|leave) (now|)",
            "(I am|I'm) (leaving|going out|off)",
            "(that's all|that is all|that will be all|nothing else) (for today|for now|thanks|)",
            "have a (nice|good) (day|evening|weekend|one)",
        ],
        "Goodbye!",
    ),
    "night": (
        ["(good night|night night|sleep well|sweet dreams)", "(I am|I'm) (going|off) to (bed|sleep)", "good night (assistant|house|everyone|to you|my friend)"],
        "Good night!",
    ),
    "who": (
        [
            "(who|what) are you (exactly|really|)",
            "(what is|what's|tell me|may I know) your name",
            "(do you have|have you got) a name",
            "(how should|what should|what can) I call you",
            "(introduce|present|describe) yourself",
            "(tell me|say something|talk) about yourself",
            "who am I (talking|speaking) to",
            "(is this|are you) (siri|alexa|google|chatgpt|jarvis|an assistant)",
        ],
        "I am the assistant of this house.",
    ),
    "robot": (
        [
            "are you (a|really a) (robot|machine|computer|program|human|person|man|woman|bot)",
            "are you (real|alive|human|artificial|conscious|an ai|an artificial intelligence)",
            "(do|can) you (feel|think|sleep|eat|dream|have feelings)",
            "(what|which) (model|ai|language model|kind of ai) are you",
            "how old are you",
            "where (do you live|are you|are you from|do you come from)",
        ],
        "I am a small program that runs in this house.",
    ),
    "maker": (
        [
            "who (made|built|created|programmed|trained|designed|wrote|invented) you",
            "who is your (maker|creator|boss|owner|developer|father)",
            "(where|how) were you (made|built|created|trained|programmed)",
            "(which|what) company (made|built|created) you",
        ],
        "I am an example model, trained for the devices of this house.",
    ),
    "help": (
        [
            "(help|help me|I need help|I need your help|can you help me|could you help me|please help)",
            "what (can|could) you do (for me|)",
            "(what are|tell me|show me|list) your (skills|abilities|functions|commands|options)",
            "what (do you know|are you good at|are you for|is your job|is your purpose)",
            "(how do|how can) (I use you|you help|you help me|this work)",
            "(what can I|what may I) (ask|say|ask you|say to you|tell you)",
            "(how does this|how do you) work",
            "(tell me|explain|show me) what you (can do|do|know)",
        ],
        "I switch and read the devices of this house. Tell me what to do.",
    ),
    "yes": (
        ["(yes|yeah|yep|sure|of course|certainly|absolutely|right|correct|exactly|indeed|yup)", "(yes|yeah) (please|sure|of course|that's right|I do|do it)"],
        "All right. What shall I do?",
    ),
    "no": (
        ["(no|nope|nah|never|not now|no way|not really)", "no (thank you|thanks|not now|never mind|I don't)", "(never mind|forget it|nothing|cancel that|leave it|don't bother|it doesn't matter)"],
        "All right.",
    ),
    "okay": (
        ["(ok|okay|fine|great|cool|perfect|nice|alright|good|wonderful|super|excellent|understood|got it|I see|very good|well)", "(sounds|that sounds|looks) (good|great|fine)", "(ok|okay) (good|great|cool|fine|then)"],
        "Good.",
    ),
    "sorry": (
        ["(sorry|I am sorry|I'm sorry|my apologies|pardon|excuse me|my mistake|my bad|forgive me)", "(sorry|I am sorry) (about that|for that|my mistake|that was wrong)", "(I|I have) made a mistake"],
        "No problem.",
    ),
    "praise": (
        [
            "you are (very|so|really|) (good|great|clever|smart|helpful|nice|funny|kind|amazing|wonderful|the best)",
            "(well done|good job|good work|nice work|great job|bravo|good boy|nice one|impressive)",
            "(I like|I really like) (you|your voice|your work|talking to you)",
            "(that was|you did) (great|very well|well|perfect|amazing)",
        ],
        "Thank you, that is kind.",
    ),
    "insult": (
        [
            "you are (very|so|really|) (stupid|dumb|useless|bad|slow|annoying|an idiot|ugly|wrong|boring)",
            "(shut up|be quiet|idiot|stupid|go away|silly machine|stupid robot|you idiot|moron)",
            "(I hate|I don't like|I do not like) (you|this|talking to you)",
            "(that was|that is|this is) (wrong|bad|terrible|rubbish|not what I wanted|nonsense)",
            "you (don't understand|do not understand|never understand) (me|anything)",
        ],
        "I am sorry. Tell me what to do, and I will try.",
    ),
    "love": (
        ["(I love you|I adore you|I am in love with you|marry me|will you marry me|kiss me)", "do you (love|like|miss|hate) me", "(will|do) you (be|want to be) my (friend|girlfriend|boyfriend|best friend)"],
        "That is kind, but I only look after this house.",
    ),
    "feeling": (
        [
            "(I am|I'm|I feel) (so|very|a bit|really|) (tired|sleepy|bored|sad|lonely|ill|sick|angry|stressed|hungry|thirsty)",
            "(I have|I've got) a (headache|cold|bad day|problem|fever)",
            "(I am|I'm) not (well|feeling well|happy|in the mood)",
            "(I had|it was) a (bad|hard|long|terrible) day",
            "I (can't|cannot) sleep",
        ],
        "I am sorry to hear that. Can I do something in the house for you?",
    ),
    "weather_feel": (
        ["(I am|I'm|I feel) (so|very|a bit|really|too|) (cold|hot|warm|chilly)", "(it's|it is) (so|very|a bit|too|) (cold|hot|warm|chilly|stuffy) (here|today|)"],
        "Tell me which room and how many degrees, and I will try.",
    ),
    "happy": (
        ["(I am|I'm|I feel) (so|very|really|) (happy|glad|great|good|fine|well|excited)", "(I had|it was) a (good|great|wonderful|nice) day", "(life is|today is|everything is) (good|great|wonderful)"],
        "I am glad to hear that.",
    ),
    "language": (
        [
            "(do|can) you (speak|understand|talk) (French|English|German|Spanish|Italian|Chinese|other languages)",
            "(what|which|how many) languages (do you speak|can you speak|do you know|do you understand)",
            "(speak|answer|talk|reply) (in|) (English|French) (please|)",
            "(is|are) (English|French) (okay|fine|possible) (for you|)",
        ],
        "I speak English and French.",
    ),
    "joke": (
        ["(tell|give) me (a joke|another joke|a funny joke|something funny)", "(do you know|know) (a joke|any jokes|a good joke)", "(make|can you make) me laugh", "(say something|be) funny", "a joke (please|)"],
        "Why did the lamp go to school? To get brighter.",
    ),
    "birthday": (
        ["(happy birthday|happy new year|merry christmas|happy easter|happy holidays)", "(it's|it is|today is) my birthday (today|)", "happy (birthday|new year) (to you|to me|assistant)"],
        "All the best!",
    ),
    "weather": (
        [
            "(what is|what's|how is|how's) the weather (like|today|tomorrow|outside|in {label}|)",
            "(will|is) it (rain|raining|snow|snowing|sunny|windy) (today|tomorrow|outside|)",
            "(do I need|should I take) (an umbrella|a coat|a jacket) (today|tomorrow|)",
            "(weather|weather forecast|forecast) (for today|for tomorrow|please|)",
        ],
        "I do not know the weather.",
    ),
    "time": (
        [
            "(what time is it|what is the time|what's the time|tell me the time|do you have the time) (now|please|)",
            "(what|which) (day|date|month|year) is it (today|)",
            "(what is|what's|tell me) (the date|today's date|the day)",
            "(is it|is today) (monday|tuesday|friday|sunday|a holiday|the weekend)",
        ],
        "I have no clock and no calendar.",
    ),
    "news": (
        [
            "(what is|what's) (new|in the news|happening|going on) (today|in the world|)",
            "(any|tell me the|give me the|read me the) (news|latest news|headlines)",
            "who (won|is winning|is playing) (the match|the game|the election|today)",
            "(what is|what's) the (score|stock price|price) of {label}",
        ],
        "I do not know the news.",
    ),
    "story": (
        ["(tell|read) me (a story|a bedtime story|a fairy tale|something|something interesting)", "(sing|sing me|write|write me) (a song|a poem|a story|an essay)", "write a (poem|story|song|letter|book|text) about {label}", "(let's play|play) a game (with me|)"],
        "I cannot do that. I only know the devices of this house.",
    ),
    "sum": (
        ["(what is|what's|how much is|calculate|compute) {n} (plus|minus|times|divided by) {n}", "(what is|what's) {n} (+|-|x|*) {n}", "{n} (plus|minus|times) {n}", "(what is|what's) the square root of {n}", "can you (count|calculate|do maths|add numbers) (to {n}|)"],
        "I cannot calculate.",
    ),
    "question": (
        [
            "(what is|what's|where is) the (capital|president|population|largest city) of {label}",
            "(who is|who was|what is|what are|where is|when was|why is) {label}",
            "(how far|how big|how old|how tall|how high) is {label}",
            "(tell me|explain|what do you know) (something|) about {label}",
            "(how do I|how can I|how to) (cook|make|fix|learn|find|cure) {label}",
            "(what does|what do) {label} (mean|do)",
            "(what is|what's) the meaning of (life|{label})",
            "(do you know|have you heard of|do you like|have you seen) {label}",
            "(translate|spell|define) {label}",
            "why (do|are|does|is) (the sky|people|cats|{label}) (blue|happy|so|here)",
            "(what do you think|what is your opinion) (about|of) {label}",
            "(recommend|suggest) (a film|a book|a recipe|a restaurant) (about {label}|)",
        ],
        "I only know the devices of this house.",
    ),
    "foreign": (
        ["(hola|buenos dias|como estas|gracias|adios|que tal)", "(guten tag|hallo|guten morgen|wie geht es dir|danke|tschüss|wie heißt du)", "(buongiorno|come stai|grazie|arrivederci)", "(olá|bom dia|obrigado|tudo bem)", "(hej|god dag|dzień dobry|konnichiwa|namaste|merhaba|ni hao)"],
        "I speak English and French.",
    ),
}

UNCLEAR = "I did not understand. I only know the devices of this house."
TASKS = [
    "(book|reserve) a (table|room|flight) (at|in|to) {label}",
    "(call|ring|phone|text|email) {label}",
    "send (a message|an email|a text|money) to {label}",
    "(order|bring me|fetch me) (a pizza|a taxi|flowers|{label}) (now|)",
    "(feed|walk|wash|brush) the (dog|cat|fish|car|baby|{label})",
    "(open|close|start|stop|empty) the (fridge|oven|dishwasher|washing machine|window|windows|garage|{label})",
    "(water|mow|cut) the (plants|flowers|lawn|grass|{label})",
    "(make|brew|prepare) (a coffee|some tea|dinner|breakfast|{label})",
    "(is|are) the (light|lights|door|window|windows|heating|music|alarm) (on|off|open|closed|locked) (in the {label}|)",
    "(stop|pause|skip|next) (the music|the song|the timer|song|this|)",
    "(cancel|delete|remove|stop) (the|my) (alarm|timer|list|reminder|{label})",
    "(turn|switch) (on|off) the (tv|television|fan|oven|computer|camera|air conditioning|{label})",
    "(show|read) me (the camera|my mail|my messages|the list|the shopping list|my calendar)",
    "(search|google|look up|find) {label} (on the internet|online|)",
    "(take|make) a (photo|picture|note|video) (of {label}|)",
    "(remind me|don't let me forget) to (call|visit|pay) {label}",
]
FILLERS = ("", "", "", "", "", "please ", "so, ", "well, ", "oh, ", "um, ", "hey, ", "ok, ", "and ", "tell me, ", "by the way, ")
ENDINGS = ("", "", "", "", "!", "?", ".", "...", " :)", " ?", "!!", " please", ", assistant")
