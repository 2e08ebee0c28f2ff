"""Owns further English phrase patterns, as in `phrases_en` and split on their own beside its patterns. No logic.

The patterns of `phrases_en` keep the split that they had before these were written.
"""

_LIGHT = "(light|lights|lamp)"
_BE = "(I want|I would like|I'd like|I need)"
_HEATER = "(heating|thermostat|radiator|heater)"
_SHADE = "(blinds|shutters|blind|shades)"
_SOUND = "(music|volume|speaker|sound)"
_ROBOT = "(vacuum|robot|hoover|vacuum cleaner)"

MORE_PHRASES: dict[str, list[str]] = {
    "light:on": [
        f"(get|have) the {_LIGHT} on in the {{place}}",
        f"{_BE} the {_LIGHT} on in the {{place}}",
        f"{_BE} the {{place}} {_LIGHT} (on|turned on|switched on)",
        f"in the {{place}} (turn|switch|put) on the {_LIGHT}",
        f"in the {{place}} (turn|switch|put) the {_LIGHT} on",
        "(it is|it's) too dark in the {place}",
        "(make|give) (some|me some|us some) light in the {place}",
        f"let the {_LIGHT} in the {{place}} be on",
        "(turn|switch|put) on all the (lights|lamps) in the {place}",
        f"(turn|switch) the {_LIGHT} of the {{place}} on",
        f"(activate|enable) the {{place}} {_LIGHT}",
        f"{{place}} {_LIGHT} on",
        "(illuminate|brighten) the {place}",
    ],
    "light:off": [
        f"{_BE} the {_LIGHT} off in the {{place}}",
        f"{_BE} the {{place}} {_LIGHT} (off|turned off|switched off)",
        f"in the {{place}} (turn|switch) off the {_LIGHT}",
        f"in the {{place}} (turn|switch) the {_LIGHT} off",
        "no (more light|light) in the {place}",
        "(turn|switch) off all the (lights|lamps) in the {place}",
        f"(turn|switch) the {_LIGHT} of the {{place}} off",
        f"(deactivate|disable|shut off) the {{place}} {_LIGHT}",
        f"(shut off|kill|put out) the {_LIGHT} in the {{place}}",
        f"{{place}} {_LIGHT} off",
        "(make|keep) it dark in the {place}",
        f"(get|have) the {_LIGHT} off in the {{place}}",
    ],
    "dim": [
        f"{_BE} the {_LIGHT} in the {{place}} at {{n}} (%|percent)",
        f"{_BE} the {{place}} {_LIGHT} at {{n}} (%|percent)",
        f"in the {{place}} (dim|set|bring|turn) the {_LIGHT} to {{n}} (%|percent)",
        f"(dim|lower|raise|adjust|change) the {_LIGHT} of the {{place}} to {{n}} (%|percent)",
        f"(lower|raise|adjust|change) the {{place}} {_LIGHT} to {{n}} (%|percent)",
        "(lower|raise|adjust|change|turn) the {place} brightness to {n} (%|percent)",
        "brightness (of|to|at) {n} (%|percent) in the {place}",
        "{n} (%|percent) (brightness|light) in the {place}",
        "make the {place} {n} (%|percent) bright",
        f"{{place}} {_LIGHT} (to|at) {{n}} (%|percent)",
    ],
    "heat": [
        f"{_BE} {{n}} (degrees|°C) in the {{place}}",
        f"{_BE} the {{place}} (at|heated to) {{n}} (degrees|°C)",
        f"(raise|lower|adjust|change|turn up|turn down) the {_HEATER} in the {{place}} to {{n}} (degrees|°C)",
        f"(raise|lower|adjust|change) the {{place}} {_HEATER} to {{n}} (degrees|°C)",
        f"in the {{place}} (set|put|turn) the {_HEATER} to {{n}} (degrees|°C)",
        "make it {n} (degrees|°C) (warm|) in the {place}",
        "(warm|heat) up the {place} to {n} (degrees|°C)",
        "(get|bring|keep) the {place} (to|at) {n} (degrees|°C)",
        f"{{place}} {_HEATER} (to|at) {{n}} (degrees|°C)",
    ],
    "temperature": [
        "(what's|do you know|show me|get|measure|find out) the temperature (in|of) the {place}",
        "(what's|show me|get|measure|find out) the {place} temperature",
        "what temperature (is it|do we have) in the {place}",
        "(is it|is it too|is it really) (warm|cold|hot) in the {place}",
        "is the {place} (warm|cold|hot)",
        "how many degrees (is it|are there|do we have) in the {place}",
        "in the {place} how (warm|cold|hot) is it",
        "I want to know (the temperature in|how warm it is in|how cold it is in) the {place}",
        "(let me know|find out) how (warm|cold|hot) (the {place} is|it is in the {place})",
        "temperature (in|of) the {place}",
    ],
    "humidity": [
        "(what's|show me|get|measure|find out) the humidity (in|of) the {place}",
        "(what's|show me|get|measure|find out) the {place} humidity",
        "what humidity (is it|do we have|is there) in the {place}",
        "(is it|is it too|is it really) (humid|damp|dry) in the {place}",
        "is the {place} (humid|damp|dry)",
        "how (humid|damp|dry) is the air in the {place}",
        "in the {place} how (humid|damp|dry) is it",
        "I want to know (the humidity in|how humid it is in|how damp it is in) the {place}",
        "(let me know|find out) how (humid|damp|dry) (the {place} is|it is in the {place})",
        "(humidity|air humidity|humidity level) (in|of) the {place}",
    ],
    "blinds": [
        f"{_BE} the {_SHADE} in the {{place}} at {{n}} (%|percent)",
        f"{_BE} the {{place}} {_SHADE} at {{n}} (%|percent)",
        f"in the {{place}} (set|move|put|bring) the {_SHADE} to {{n}} (%|percent)",
        f"(raise|lower|adjust|change|pull) the {_SHADE} (in|of) the {{place}} to {{n}} (%|percent)",
        f"(raise|lower|adjust|change|pull) the {{place}} {_SHADE} to {{n}} (%|percent)",
        f"(open|close) the {_SHADE} in the {{place}} to {{n}} (%|percent)",
        f"{{place}} {_SHADE} (to|at) {{n}} (%|percent)",
        f"{{n}} (%|percent) for the {_SHADE} in the {{place}}",
    ],
    "curtains:open": [
        "(pull|slide) open the (curtains|curtain|drapes) in the {place}",
        "(pull|slide) the {place} (curtains|curtain|drapes) open",
        f"{_BE} the (curtains|drapes) (open|opened) in the {{place}}",
        f"{_BE} the {{place}} (curtains|drapes) (open|opened)",
        "in the {place} (open|draw back) the (curtains|curtain|drapes)",
        "(open|draw back) the (curtains|drapes) of the {place}",
        "(open up|part|pull back) the {place} (curtains|drapes)",
        "{place} (curtains|drapes) open",
    ],
    "curtains:close": [
        "(pull|slide) the {place} (curtains|curtain|drapes) (shut|closed)",
        "(pull|draw) the (curtains|drapes) (shut|closed) in the {place}",
        f"{_BE} the (curtains|drapes) (closed|shut) in the {{place}}",
        f"{_BE} the {{place}} (curtains|drapes) (closed|shut)",
        "in the {place} (close|shut) the (curtains|curtain|drapes)",
        "(close|shut) the (curtains|drapes) of the {place}",
        "(close up|pull together|draw together) the {place} (curtains|drapes)",
        "{place} (curtains|drapes) (closed|shut)",
    ],
    "lock:lock": [
        f"{_BE} the {{place}} (door|gate) (locked|bolted)",
        f"{_BE} the (door|gate) (of|to) the {{place}} (locked|bolted)",
        "(lock|bolt) (up|) the {place}",
        "(lock up|secure) the {place} (door|gate)",
        "(lock up|secure) the (door|gate) (of|to|in) the {place}",
        "make sure the {place} (door|gate) is (locked|bolted)",
        "(get|keep) the {place} (door|gate) (locked|bolted)",
        "{place} (door|gate) (lock|locked)",
    ],
    "lock:unlock": [
        f"{_BE} the {{place}} (door|gate) (unlocked|unbolted)",
        f"{_BE} the (door|gate) (of|to) the {{place}} (unlocked|unbolted)",
        "(unlock|unbolt) the {place}",
        "(unlock|unbolt|release) the (door|gate) in the {place}",
        "(release|undo) the {place} (door|gate) lock",
        "make sure the {place} (door|gate) is (unlocked|unbolted)",
        "(get|keep) the {place} (door|gate) (unlocked|unbolted)",
        "{place} (door|gate) (unlock|unlocked)",
    ],
    "timer": [
        f"{_BE} a timer (of|for) {{n}} minutes for the {{label}}",
        f"{_BE} a {{n}} minute timer for the {{label}}",
        "for the {label} (set|start|make) a timer (of|for) {n} minutes",
        "for the {label} (set|start|make) a {n} minute timer",
        "(give|allow) the {label} {n} minutes",
        "(start|begin|run) a countdown (of|for) {n} minutes for the {label}",
        "(tell|warn|remind) me in {n} minutes about the {label}",
        "the {label} (needs|need|takes|take) {n} minutes",
        "(set|start) the timer (to|for) {n} minutes for the {label}",
        "(set|start) the {label} timer (to|for) {n} minutes",
        "{n} minutes for the {label}",
    ],
    "volume": [
        f"{_BE} the {_SOUND} in the {{place}} at {{n}}",
        f"{_BE} the {{place}} {_SOUND} at {{n}}",
        f"in the {{place}} (turn|set|put|bring) the {_SOUND} to {{n}}",
        f"(raise|lower|adjust|change|turn up|turn down) the {_SOUND} (in|of) the {{place}} to {{n}}",
        f"(raise|lower|adjust|change|turn up|turn down) the {{place}} {_SOUND} to {{n}}",
        "(volume|sound level) (to|at) {n} in the {place}",
        f"{{place}} {_SOUND} (to|at) {{n}}",
        "make the {place} speaker (play|go) at {n}",
    ],
    "alarm": [
        f"{_BE} an alarm (for|at) {{time}}",
        "get me (up|out of bed) at {time}",
        "I (need|would like|want) to be (up|awake) at {time}",
        "(ring|call) me at {time} to wake up",
        "(set|put|make) (my|the) alarm clock (for|at|to) {time}",
        "(add|create|schedule) (an alarm|a wake up call|an alarm clock) (for|at) {time}",
        "alarm (for|at) {time}",
        "make sure I am (up|awake) at {time}",
        "at {time} (wake me up|ring the alarm|I must get up)",
    ],
    "vacuum": [
        f"have the {_ROBOT} (clean|do|sweep|vacuum) the {{place}}",
        f"{_BE} the {{place}} (vacuumed|cleaned|swept|hoovered)",
        f"(start|run|use) the {_ROBOT} in the {{place}}",
        f"(start|send) the {_ROBOT} (cleaning|sweeping) the {{place}}",
        "the {place} (is|looks) (dirty|dusty)",
        "(clean up|tidy up|vacuum out|hoover up) the {place}",
        "the {place} needs (cleaning|vacuuming|sweeping|a clean)",
        "do (the floor in|the floor of|some cleaning in) the {place}",
        "(give|do) the {place} (a clean|a sweep|a hoover)",
        f"tell the {_ROBOT} to (clean|do|sweep|vacuum) the {{place}}",
        "(clean|vacuum|hoover) the floor (in|of) the {place}",
    ],
    "music": [
        f"{_BE} (to hear|to listen to|) {{label}} in the {{place}}",
        "(stream|turn on|get me|give me|give us) {label} in the {place}",
        "(I feel like|let's hear|let us hear) {label} in the {place}",
        "in the {place} (stream|turn on|give me) {label}",
        "(put|get) {label} on in the {place}",
        "(play|start|put on) {label} on the {place} (speaker|speakers)",
        "(play|start|put on) (some|a bit of) {label} in the {place}",
        "listen to {label} in the {place}",
        "{label} in the {place}",
        "let {label} (play|run) in the {place}",
    ],
    "shopping": [
        "(note|note down|write down|jot down) {label} (to buy|for the shopping)",
        "{label} (goes|go|should go) on the (list|shopping list)",
        "(I need|we should get|we must buy|we have to buy|I must buy) {label}",
        "(we have no|there is no|there are no|we ran out of) (more|) {label}",
        "(don't forget|do not forget|remember|get|pick up) {label} (at the shop|from the store|when shopping)",
        "(put|add|write) {label} (down|) on the shopping list",
        "(include|enter|append) {label} (in|on|to) the (shopping list|list)",
        "on (the|my) (shopping list|list) (put|add|write) {label}",
        "shopping list (add|plus) {label}",
    ],
}

MORE_PLACES = """east bedroom|west bedroom|small bedroom|big bedroom|guest bathroom|guest toilet|upstairs hall|
downstairs hall|upstairs bathroom|home office|home cinema|tv room|sewing room|sitting room|family room|storage room|
back garden|front garden|front door|back door|side entrance|rear terrace|top floor|ground floor|first floor|
second floor|coffee corner|breakfast room|tool shed|bike shed|bicycle cellar|hobby room|baby room|children's room|
mum's office|dad's workshop|Anna's room|Tom's room|kitchen island|bar|reading room|fitness room|server room|
meeting room|waiting room|reception|lobby|canteen|drying room|cheese cellar|summer house|garden house|pool house|pool|
swimming pool|winter garden|roof terrace|left wing|right wing|north wing|south wing|old kitchen|new kitchen|
small living room|walk in closet|closet|toilet|powder room|driveway|patio|deck|hen house|dog house|boat house"""
MORE_LABELS = {
    "timer": "hard boiled eggs|apple pie|chocolate cake|garlic bread|baked potatoes|green beans|roast beef|power nap|"
    "coffee break|piano practice|washing machine|tumble dryer|fish fingers|face mask|hair dye|plank|stew|risotto|"
    "brown rice|black tea|herbal tea|phone call|board game|screen time|tomato soup|chicken wings|pancakes|steak",
    "music": "classical music|smooth jazz|hard rock|punk rock|the evening news|radio two|morning show|rain sounds|"
    "white noise|a podcast|party music|dinner music|guitar music|old songs|love songs|christmas songs|movie themes|"
    "my playlist|my favourite songs|something calm|Beethoven|Mahler|bossa nova|drum and bass|the blues brothers|gospel",
    "shopping": "toilet paper|washing powder|dish soap|brown bread|white wine|red wine|sparkling water|oat milk|"
    "cat food|bird seed|light bulbs|bin bags|baking powder|peanut butter|ice cream|frozen peas|chicken breast|"
    "cream cheese|sour cream|soy sauce|black pepper|two lemons|six eggs|a kilo of flour|a bag of rice|"
    "a bottle of milk|tea bags|fresh basil|dark chocolate|kitchen roll|potatoes|lettuce|cucumbers|ham|tofu|pears",
}
