"""Owns the French half of the data: how things are asked for, described and answered. No logic.

Patterns as in `phrases_en`; `{in}`, `{of}`, `{the}` are a place with its preposition and article
("dans la cuisine", "du salon", "l'entrée").
"""

_LAMP = "(la lumière|les lumières|la lampe)"

PHRASES: dict[str, list[str]] = {
    "light:on": [f"(allume|mets) {_LAMP} {{of}}", f"(allume|mets) {_LAMP} {{in}}", "(éclaire|illumine) {the}"],
    "light:off": [f"(éteins|coupe) {_LAMP} {{of}}", f"(éteins|coupe) {_LAMP} {{in}}"],
    "dim": [
        f"(mets|règle|baisse|monte) {_LAMP} {{of}} (à|sur) {{n}} (%|pour cent)",
        f"(mets|règle|baisse|monte) {_LAMP} {{in}} (à|sur) {{n}} (%|pour cent)",
        "(mets|règle) la luminosité {of} (à|sur) {n} (%|pour cent)",
    ],
    "heat": [
        "(mets|règle|monte|baisse) (le chauffage|le thermostat|le radiateur) {of} (à|sur) {n} (degrés|°C)",
        "(mets|règle|monte|baisse) (le chauffage|le thermostat|le radiateur) {in} (à|sur) {n} (degrés|°C)",
        "chauffe {the} à {n} (degrés|°C)",
    ],
    "temperature": [
        "(dis-moi|donne-moi|lis|vérifie|quelle est) la température {of}",
        "(dis-moi|donne-moi|lis|vérifie|quelle est) la température {in}",
        "(dis-moi combien il fait|combien fait-il|quelle température fait-il|est-ce qu'il fait chaud) {in}",
        "(est-ce qu'il fait froid|dis-moi s'il fait froid|dis-moi s'il fait chaud) {in}",
    ],
    "humidity": [
        "(dis-moi|donne-moi|lis|vérifie|quelle est) l'humidité {of}",
        "(dis-moi|donne-moi|lis|vérifie|quelle est) l'humidité {in}",
        "(dis-moi|donne-moi|lis|vérifie|quel est) le taux d'humidité {of}",
        "(est-ce que c'est humide|dis-moi si c'est humide|est-ce que c'est sec|dis-moi si c'est sec) {in}",
    ],
    "blinds": [
        "(mets|règle|descends|monte) (les stores|les volets|le store) {of} (à|sur) {n} (%|pour cent)",
        "(mets|règle|descends|monte) (les stores|les volets|le store) {in} (à|sur) {n} (%|pour cent)",
    ],
    "curtains:open": ["(ouvre|écarte) (les rideaux|le rideau) {of}", "(ouvre|écarte) (les rideaux|le rideau) {in}"],
    "curtains:close": ["(ferme|tire) (les rideaux|le rideau) {of}", "(ferme|tire) (les rideaux|le rideau) {in}"],
    "lock:lock": ["(verrouille|ferme à clé|bloque) (la porte|le portail) {of}"],
    "lock:unlock": ["(déverrouille|ouvre|débloque) (la porte|le portail) {of}"],
    "timer": [
        "(lance|mets|démarre) (un minuteur|une minuterie|un compte à rebours) de {n} minutes pour {label}",
        "(compte|chronomètre) {n} minutes pour {label}",
    ],
    "volume": [
        "(mets|règle|monte|baisse) (le volume|le son|la musique|l'enceinte) {of} (à|sur) {n}",
        "(mets|règle|monte|baisse) (le volume|le son|la musique|l'enceinte) {in} (à|sur) {n}",
    ],
    "alarm": [
        "(réveille-moi|lève-moi) à {time}",
        "(mets|règle|programme) (un|le) (réveil|alarme) (à|pour) {time}",
        "je (veux|dois) me (lever|réveiller) à {time}",
    ],
    "vacuum": [
        "(aspire|nettoie|balaie) {the}",
        "(envoie|lance|mets) (l'aspirateur|le robot) {in}",
        "(passe|fais passer) (l'aspirateur|le robot) {in}",
    ],
    "music": [
        "(joue|mets|lance|fais écouter) {label} {in}",
        "{in} (joue|mets|lance) {label}",
        "(démarre|passe) {label} {in}",
        "{in} (démarre|écoute|joue-moi|fais jouer) {label}",
    ],
    "shopping": [
        "(ajoute|mets|écris|note) {label} (à|sur) (la|ma) (liste de courses|liste)",
        "(il nous faut|il faut acheter|nous n'avons plus de|pense à acheter) {label}",
    ],
}

DESCRIPTIONS: dict[str, list[str]] = {
    "light": ["Allumer ou éteindre une lampe", "Lumière d'une pièce", "Allume ou éteint la lumière"],
    "dim": ["Régler la luminosité", "Luminosité d'une lampe en pour cent", "Varier la lumière"],
    "heat": ["Régler le chauffage", "Thermostat d'une pièce", "Température voulue"],
    "temperature": ["Lire la température", "Température d'une pièce", "Capteur de température"],
    "humidity": ["Lire l'humidité", "Humidité d'une pièce", "Capteur d'humidité"],
    "blinds": ["Régler les stores", "Position des volets", "Stores en pour cent"],
    "curtains": ["Ouvrir ou fermer les rideaux", "Rideaux d'une pièce"],
    "lock": ["Verrouiller une porte", "Serrure de la porte", "Verrouille ou déverrouille"],
    "timer": ["Lancer un minuteur", "Minuteur en minutes", "Compte à rebours"],
    "volume": ["Régler le volume", "Volume d'une enceinte", "Le son de la musique"],
    "alarm": ["Mettre un réveil", "Programmer le réveil", "Réveil"],
    "vacuum": ["Nettoyer une pièce", "Envoyer l'aspirateur", "Robot aspirateur"],
    "music": ["Jouer de la musique", "Musique dans une pièce", "Lancer une chanson"],
    "shopping": ["Ajouter à la liste de courses", "Liste de courses", "Noter un article"],
}

ANSWERS: dict[str, str] = {
    "light:on": "La lumière {of} est allumée.",
    "light:off": "La lumière {of} est éteinte.",
    "dim": "La lumière {of} est à {n} %.",
    "heat": "Le chauffage {of} est réglé à {n} °C.",
    "temperature": "Il fait {result} °C {in}.",
    "humidity": "L'humidité {of} est de {result} %.",
    "blinds": "Les stores {of} sont à {n} %.",
    "curtains:open": "Les rideaux {of} sont ouverts.",
    "curtains:close": "Les rideaux {of} sont fermés.",
    "lock:lock": "La porte {of} est verrouillée.",
    "lock:unlock": "La porte {of} est déverrouillée.",
    "timer": "Le minuteur pour {label} est lancé pour {n} minutes.",
    "volume": "Le volume {of} est à {n}.",
    "alarm": "Le réveil est mis à {time}.",
    "vacuum": "L'aspirateur nettoie {the}.",
    "music": "Je joue {label} {in}.",
    "shopping": "{label} est sur la liste.",
}

FAILED = "Cela n'a pas marché : {result}."
NO_TOOL = "Je n'ai pas d'outil pour cela."
JOINS = [
    " et ",
    ", puis ",
    " et ensuite ",
    ", et ",
    ". Ensuite ",
    " et aussi ",
    ". Et ",
    ", après ça ",
    ", et aussi ",
    " ; ",
    " puis ",
    " et ",
]
PREFIXES = ["", "", "", "", "s'il te plaît, ", "dis, ", "alors, ", "bonjour, ", "salut, ", "ok, ", "hé, ", "", "", ""]
SUFFIXES = ["", "", "", "", ".", " s'il te plaît", " ?", ", merci"]

# article|noun
PLACES = """la cuisine|le salon|la chambre|la salle de bains|le bureau|la cave|le grenier|le garage|l'entrée|le couloir|
la salle à manger|la buanderie|le balcon|la terrasse|le jardin|la véranda|le sous-sol|l'atelier|la bibliothèque|
la salle de jeux|le sauna|l'escalier|la serre|le cellier|la chambre d'amis|le débarras|la salle de sport|le palier|
la cour|le dressing|la chambre des enfants|le séjour|la mezzanine|le vestibule|la salle de musique|l'étable|la grange|
le porche|la remise|le patio|l'abri|le studio|la piscine|le petit salon|la chaufferie|la salle d'eau|le hall|
le boudoir|la galerie|le coin lecture|le fournil|la réserve|le vestiaire|la loge|le préau"""
LABELS = {
    "timer": "les œufs|les pâtes|la pizza|le riz|le pain|le gâteau|la lessive|le thé|la soupe|le rôti|la sieste|"
    "le four|les devoirs|le yoga|la pause|la tarte|les lentilles|le poulet|la salade|la douche|la réunion|la sauce",
    "music": "du jazz|du rock|Mozart|Bach|du blues|du piano|les infos|France Musique|la radio|de la soul|Chopin|"
    "un opéra|du reggae|Vivaldi|des berceuses|de la pop|Debussy|du funk|Brassens|une valse|du métal",
    "shopping": "lait|œufs|pain|beurre|pommes|thé vert|café|tomates|fromage|savon|riz|farine|bananes|oignons|sel|sucre|"
    "yaourts|jus d'orange|piles|ail|carottes|miel|moutarde|huile d'olive|chocolat|pâtes|lessive",
}
