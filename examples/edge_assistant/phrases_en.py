"""Owns the English half of the data: how things are asked for, described and answered. No logic.

A phrase is a pattern: `(a|b)` expands to one skeleton a choice, `{place}`, `{n}`, `{time}`, `{label}` are slots.
A key `kind:value` fixes the on/off, open/close or lock/unlock slot of that kind.
"""

PHRASES: dict[str, list[str]] = {
    "light:on": [
        "(turn|switch|put) on the (light|lights|lamp) in the {place}",
        "(turn|switch|put) the {place} (light|lights|lamp) on",
        "(turn|switch|put) on the {place} (light|lights|lamp)",
        "(turn|switch|put) the (light|lights|lamp) in the {place} on",
        "light up the {place}",
    ],
    "light:off": [
        "(turn|switch) off the (light|lights|lamp) in the {place}",
        "(turn|switch) the {place} (light|lights|lamp) off",
        "(turn|switch) off the {place} (light|lights|lamp)",
        "(turn|switch) the (light|lights|lamp) in the {place} off",
        "(kill|cut) the (light|lights) in the {place}",
    ],
    "dim": [
        "(dim|set|bring|turn|put) the (light|lights|lamp) in the {place} to {n} (%|percent)",
        "(dim|set|bring|turn|put) the {place} (light|lights|lamp) to {n} (%|percent)",
        "(set|put) the brightness (in|of) the {place} to {n} (%|percent)",
    ],
    "heat": [
        "(set|put|bring|turn) the (heating|thermostat|radiator) in the {place} to {n} (degrees|°C)",
        "(set|put|bring|turn) the {place} (heating|thermostat|radiator) to {n} (degrees|°C)",
        "(heat|warm) the {place} to {n} (degrees|°C)",
    ],
    "temperature": [
        "(tell me|say|check) how (warm|cold|hot) the {place} is",
        "(tell me|say|check) how (warm|cold|hot) it is in the {place}",
        "how (warm|cold|hot) is the {place}",
        "how (warm|cold|hot) is it in the {place}",
        "(what is|tell me|read|check|give me) the temperature (in|of) the {place}",
        "(what is|tell me|read|check|give me) the {place} temperature",
    ],
    "humidity": [
        "(tell me|say|check) how (humid|damp|dry) the {place} is",
        "(tell me|say|check) how (humid|damp|dry) it is in the {place}",
        "how (humid|damp|dry) is the {place}",
        "how (humid|damp|dry) is it in the {place}",
        "(what is|tell me|read|check|give me) the humidity (in|of) the {place}",
        "(what is|tell me|read|check|give me) the {place} humidity",
    ],
    "blinds": [
        "(set|move|put|bring) the (blinds|shutters|blind) in the {place} to {n} (%|percent)",
        "(set|move|put|bring) the {place} (blinds|shutters|blind) to {n} (%|percent)",
    ],
    "curtains:open": [
        "(open|draw back) the (curtains|curtain) in the {place}",
        "(open|draw back) the {place} (curtains|curtain)",
    ],
    "curtains:close": [
        "(close|shut) the (curtains|curtain) in the {place}",
        "(close|shut) the {place} (curtains|curtain)",
    ],
    "lock:lock": ["(lock|bolt) the {place} (door|gate)", "(lock|bolt) the (door|gate) (of|to) the {place}"],
    "lock:unlock": ["(unlock|unbolt) the {place} (door|gate)", "(unlock|unbolt) the (door|gate) (of|to) the {place}"],
    "timer": [
        "(set|start|make) a timer (of|for) {n} minutes for the {label}",
        "(set|start|make) a {n} minute timer for the {label}",
        "(count|time) {n} minutes for the {label}",
    ],
    "volume": [
        "(turn|set|put|bring) the (music|volume|speaker|sound) in the {place} to {n}",
        "(turn|set|put|bring) the {place} (music|volume|speaker|sound) to {n}",
    ],
    "alarm": [
        "wake me (up |)at {time}",
        "(set|make|put) (an|the) alarm (for|at) {time}",
        "(I want|I have) to (get|wake) up at {time}",
    ],
    "vacuum": [
        "(vacuum|clean|hoover|sweep) the {place}",
        "(send|get|move) the (vacuum|robot|hoover) to the {place}",
        "let the (vacuum|robot|hoover) (clean|do|sweep) the {place}",
        "sweep (up|out) the {place}",
        "(quickly|now) sweep the {place}",
    ],
    "music": [
        "(play|start|put on|let me hear) {label} in the {place}",
        "in the {place} (play|start|put on|let me hear) {label}",
        "(play|start) {label} for the {place}",
        "play {label} (over|out|up) in the {place}",
    ],
    "shopping": [
        "(add|put|write) {label} (to|on) (the|my) (shopping list|list|groceries)",
        "(we need|we are out of|remember to buy|buy) {label}",
    ],
}

DESCRIPTIONS: dict[str, list[str]] = {
    "light": ["Turn a light on or off", "Switch a lamp on or off", "Light on or off", "Switch the lights in a room"],
    "dim": [
        "Dim a light",
        "Set the brightness of a lamp",
        "Set the brightness in a room",
        "Light brightness in percent",
    ],
    "heat": ["Set the heating", "Set the thermostat of a room", "Set a target temperature", "Heat a room"],
    "temperature": [
        "Read the temperature of a room",
        "How warm a room is",
        "Temperature sensor",
        "Get the temperature",
    ],
    "humidity": ["Read the humidity of a room", "How humid a room is", "Humidity sensor", "Get the humidity"],
    "blinds": ["Move the blinds", "Set the position of the shutters", "Blinds in percent", "Set the blinds of a room"],
    "curtains": ["Open or close the curtains", "Move the curtains of a room", "Curtains open or close"],
    "lock": ["Lock or unlock a door", "Door lock", "Bolt or unbolt a door"],
    "timer": ["Start a timer", "Set a timer in minutes", "Count down some minutes"],
    "volume": ["Set the volume", "Set the volume of a speaker", "How loud the music is"],
    "alarm": ["Set an alarm", "Wake the user up", "Alarm clock"],
    "vacuum": ["Clean a room", "Send the vacuum to a room", "Vacuum robot"],
    "music": ["Play music", "Play music in a room", "Start a song or a station"],
    "shopping": ["Add to the shopping list", "Put an item on the list", "Shopping list"],
}

ANSWERS: dict[str, str] = {
    "light:on": "The light in the {place} is on.",
    "light:off": "The light in the {place} is off.",
    "dim": "The light in the {place} is at {n} %.",
    "heat": "The heating in the {place} is set to {n} °C.",
    "temperature": "It is {result} °C in the {place}.",
    "humidity": "The humidity in the {place} is {result} %.",
    "blinds": "The blinds in the {place} are at {n} %.",
    "curtains:open": "The curtains in the {place} are open.",
    "curtains:close": "The curtains in the {place} are closed.",
    "lock:lock": "The {place} door is locked.",
    "lock:unlock": "The {place} door is unlocked.",
    "timer": "The timer for the {label} runs for {n} minutes.",
    "volume": "The volume in the {place} is at {n}.",
    "alarm": "The alarm is set for {time}.",
    "vacuum": "The vacuum is cleaning the {place}.",
    "music": "Playing {label} in the {place}.",
    "shopping": "{label} is on the list.",
}

FAILED = "That did not work: {result}."
NO_TOOL = "I have no tool for that."
JOINS = [
    " and ",
    ", then ",
    " and then ",
    ", and ",
    ". Then ",
    ", also ",
    ". Also ",
    ", after that ",
    ", and also ",
    "; ",
    ", and please ",
    " and ",
]
PREFIXES = [
    "",
    "",
    "",
    "",
    "please ",
    "could you ",
    "can you ",
    "hey, ",
    "hello, ",
    "hi, ",
    "ok, ",
    "would you ",
    "please could you ",
    "",
    "",
    "",
]
SUFFIXES = ["", "", "", "", ".", " please", "?", ", thanks"]

PLACES = """kitchen|living room|bedroom|bathroom|study|cellar|attic|garage|hall|hallway|dining room|office|nursery|
guest room|laundry room|pantry|balcony|terrace|garden|porch|basement|loft|workshop|library|playroom|gym|sauna|corridor|
staircase|entrance|conservatory|greenhouse|shed|kids room|master bedroom|front room|back room|den|lounge|utility room|
box room|spare room|wine cellar|music room|game room|sunroom|boiler room|mud room|cloakroom|dressing room|parlour|
studio|veranda|courtyard|carport|stable|barn|landing|music studio|reading corner"""
LABELS = {
    "timer": "eggs|pasta|pizza|rice|bread|cake|laundry|tea|soup|potatoes|roast|cookies|noodles|oven|dough|nap|homework|"
    "yoga|break|dishes|pie|beans|lentils|chicken|salad|shower|meeting|workout|muffins|sauce",
    "music": "jazz|rock|Mozart|Bach|blues|piano music|the news|radio one|folk songs|soul|techno|Chopin|opera|reggae|"
    "disco|country music|lullabies|hip hop|Vivaldi|funk|ambient|swing|film music|metal|pop",
    "shopping": "milk|eggs|bread|butter|apples|green tea|coffee|olive oil|tomatoes|cheese|soap|paper towels|rice|flour|"
    "bananas|onions|salt|sugar|yoghurt|orange juice|batteries|dog food|garlic|carrots|honey|mustard|oats",
}
