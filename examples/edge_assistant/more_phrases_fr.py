"""Owns further French phrase patterns, as in `phrases_fr` and split on their own beside its patterns. No logic.

The patterns of `phrases_fr` keep the split that they had before these were written.
"""

_LAMP = "(la lumière|les lumières|la lampe)"
_CAN = "(peux-tu|tu peux|pourrais-tu|je veux|il faut|pouvez-vous)"
_HEATER = "(le chauffage|le thermostat|le radiateur)"
_SHADE = "(les stores|les volets|le store)"
_SOUND = "(le volume|le son|la musique|l'enceinte)"
_DEGREES = "{n} (degrés|°C)"
_PERCENT = "{n} (%|pour cent)"

MORE_PHRASES: dict[str, list[str]] = {
    "light:on": [
        f"{_CAN} (allumer|mettre) {_LAMP} {{of}}",
        f"{_CAN} (allumer|mettre) {_LAMP} {{in}}",
        "(je veux|je voudrais|j'aimerais) de la lumière {in}",
        f"{{in}} (allume|mets) {_LAMP}",
        f"(allumez|mettez) {_LAMP} {{of}}",
        f"(allumez|mettez) {_LAMP} {{in}}",
        "(il fait|il fait trop) (sombre|noir) {in}",
        "(mets|fais) de la lumière {in}",
        f"{_CAN} (éclairer|illuminer) {{the}}",
        f"(active|rallume) {_LAMP} {{of}}",
        "allume toutes les (lumières|lampes) {of}",
        f"que {_LAMP} {{of}} soit allumée",
    ],
    "light:off": [
        f"{_CAN} (éteindre|couper) {_LAMP} {{of}}",
        f"{_CAN} (éteindre|couper) {_LAMP} {{in}}",
        f"{{in}} (éteins|coupe) {_LAMP}",
        f"(éteignez|coupez) {_LAMP} {{of}}",
        f"(éteignez|coupez) {_LAMP} {{in}}",
        "(plus|je ne veux plus) de lumière {in}",
        f"(désactive|arrête) {_LAMP} {{of}}",
        "éteins toutes les (lumières|lampes) {of}",
        "(fais le noir|mets le noir) {in}",
        f"que {_LAMP} {{of}} soit éteinte",
    ],
    "dim": [
        f"{_CAN} (mettre|régler|baisser|monter) {_LAMP} {{of}} à {_PERCENT}",
        f"{_CAN} (mettre|régler|baisser|monter) {_LAMP} {{in}} à {_PERCENT}",
        f"{_CAN} (mettre|régler|baisser|monter) la luminosité {{of}} à {_PERCENT}",
        f"{{in}} (mets|règle|baisse|monte) {_LAMP} à {_PERCENT}",
        f"(mettez|réglez|baissez|montez) {_LAMP} {{of}} (à|sur) {_PERCENT}",
        f"(tamise|ajuste|change) {_LAMP} {{of}} (à|sur) {_PERCENT}",
        f"(tamise|ajuste|change) {_LAMP} {{in}} (à|sur) {_PERCENT}",
        f"(baisse|monte|ajuste) la luminosité {{in}} (à|sur) {_PERCENT}",
        f"{_PERCENT} de (lumière|luminosité) {{in}}",
        f"luminosité {{of}} à {_PERCENT}",
    ],
    "heat": [
        f"{_CAN} (mettre|régler|monter|baisser) {_HEATER} {{of}} à {_DEGREES}",
        f"{_CAN} (mettre|régler|monter|baisser) {_HEATER} {{in}} à {_DEGREES}",
        f"{_CAN} chauffer {{the}} à {_DEGREES}",
        f"(je veux|je voudrais|j'aimerais|il me faut) {_DEGREES} {{in}}",
        f"{{in}} (mets|règle|monte|baisse) {_HEATER} à {_DEGREES}",
        f"(mettez|réglez|montez|baissez) {_HEATER} {{of}} (à|sur) {_DEGREES}",
        f"(ajuste|change|pousse) {_HEATER} {{of}} (à|sur) {_DEGREES}",
        f"(ajuste|change|pousse) {_HEATER} {{in}} (à|sur) {_DEGREES}",
        f"(mets|garde) {{the}} à {_DEGREES}",
        f"chauffage {{of}} à {_DEGREES}",
    ],
    "temperature": [
        "(peux-tu|tu peux|pourrais-tu) (me dire|me donner|lire|vérifier) la température {of}",
        "(peux-tu|tu peux|pourrais-tu) (me dire|me donner|lire|vérifier) la température {in}",
        "(je veux|je voudrais|j'aimerais) (savoir|connaître) la température {of}",
        "(je veux|je voudrais|j'aimerais) savoir combien il fait {in}",
        "(combien de degrés fait-il|il fait combien|il fait combien de degrés) {in}",
        "{in} (combien fait-il|il fait combien|quelle est la température)",
        "(mesure|relève|affiche|montre-moi|c'est quoi) la température {of}",
        "(mesure|relève|affiche|montre-moi|c'est quoi) la température {in}",
        "(fait-il|il fait) (chaud|froid|trop chaud|trop froid) {in}",
        "température {of}",
    ],
    "humidity": [
        "(peux-tu|tu peux|pourrais-tu) (me dire|me donner|lire|vérifier) l'humidité {of}",
        "(peux-tu|tu peux|pourrais-tu) (me dire|me donner|lire|vérifier) le taux d'humidité {in}",
        "(je veux|je voudrais|j'aimerais) (savoir|connaître) (l'humidité|le taux d'humidité) {of}",
        "{in} (quelle est l'humidité|quel est le taux d'humidité|est-ce que c'est humide)",
        "(mesure|relève|affiche|montre-moi|c'est quoi) l'humidité {of}",
        "(mesure|relève|affiche|montre-moi|c'est quoi) (l'humidité|le taux d'humidité) {in}",
        "(est-ce humide|est-ce sec|c'est humide|c'est sec|c'est trop humide) {in}",
        "(humidité|taux d'humidité) {of}",
        "l'air est-il (humide|sec) {in}",
    ],
    "blinds": [
        f"{_CAN} (mettre|régler|descendre|monter) {_SHADE} {{of}} à {_PERCENT}",
        f"{_CAN} (mettre|régler|descendre|monter) {_SHADE} {{in}} à {_PERCENT}",
        f"{{in}} (mets|règle|descends|monte) {_SHADE} à {_PERCENT}",
        f"(mettez|réglez|descendez|montez) {_SHADE} {{of}} (à|sur) {_PERCENT}",
        f"(baisse|lève|ajuste|remonte) {_SHADE} {{of}} (à|sur) {_PERCENT}",
        f"(baisse|lève|ajuste|remonte) {_SHADE} {{in}} (à|sur) {_PERCENT}",
        f"(ouvre|ferme) {_SHADE} {{of}} à {_PERCENT}",
        f"{_SHADE} {{of}} à {_PERCENT}",
    ],
    "curtains:open": [
        f"{_CAN} (ouvrir|écarter) (les rideaux|le rideau) {{of}}",
        f"{_CAN} (ouvrir|écarter) (les rideaux|le rideau) {{in}}",
        "{in} (ouvre|écarte) (les rideaux|le rideau)",
        "(ouvrez|écartez) (les rideaux|le rideau) {of}",
        "(ouvrez|écartez) (les rideaux|le rideau) {in}",
        "(je veux|je voudrais|j'aimerais) les rideaux {of} ouverts",
        "rideaux {of} ouverts",
    ],
    "curtains:close": [
        f"{_CAN} (fermer|tirer) (les rideaux|le rideau) {{of}}",
        f"{_CAN} (fermer|tirer) (les rideaux|le rideau) {{in}}",
        "{in} (ferme|tire) (les rideaux|le rideau)",
        "(fermez|tirez) (les rideaux|le rideau) {of}",
        "(fermez|tirez) (les rideaux|le rideau) {in}",
        "(je veux|je voudrais|j'aimerais) les rideaux {of} fermés",
        "rideaux {of} fermés",
    ],
    "lock:lock": [
        f"{_CAN} (verrouiller|fermer à clé|bloquer) (la porte|le portail) {{of}}",
        "(verrouillez|fermez à clé|bloquez) (la porte|le portail) {of}",
        "(verrouille|ferme à clé|bloque) {the}",
        "(je veux|je voudrais|j'aimerais) que la porte {of} soit (verrouillée|fermée à clé)",
        "(mets le verrou|donne un tour de clé) à la porte {of}",
        "(sécurise|boucle) (la porte|le portail) {of}",
        "porte {of} (verrouillée|fermée à clé)",
    ],
    "lock:unlock": [
        f"{_CAN} (déverrouiller|débloquer) (la porte|le portail) {{of}}",
        "(déverrouillez|ouvrez|débloquez) (la porte|le portail) {of}",
        "(déverrouille|débloque) {the}",
        "(je veux|je voudrais|j'aimerais) que la porte {of} soit déverrouillée",
        "(enlève|ôte|retire) le verrou de la porte {of}",
        f"{_CAN} ouvrir (la porte|le portail) {{of}}",
        "porte {of} déverrouillée",
    ],
    "timer": [
        f"{_CAN} (lancer|mettre|démarrer) (un minuteur|une minuterie) de {{n}} minutes pour {{label}}",
        f"{_CAN} (compter|chronométrer) {{n}} minutes pour {{label}}",
        "pour {label} (lance|mets|démarre) (un minuteur|une minuterie|un compte à rebours) de {n} minutes",
        "pour {label} (compte|chronomètre) {n} minutes",
        "(lancez|mettez|démarrez) (un minuteur|une minuterie) de {n} minutes pour {label}",
        "(je veux|je voudrais|il me faut) (un minuteur|une minuterie) de {n} minutes pour {label}",
        "(préviens-moi|avertis-moi) dans {n} minutes pour {label}",
        "(règle|programme) (le minuteur|la minuterie) sur {n} minutes pour {label}",
        "(minuteur|minuterie) de {n} minutes pour {label}",
        "{n} minutes pour {label}",
    ],
    "volume": [
        f"{_CAN} (mettre|régler|monter|baisser) {_SOUND} {{of}} à {{n}}",
        f"{_CAN} (mettre|régler|monter|baisser) {_SOUND} {{in}} à {{n}}",
        f"{{in}} (mets|règle|monte|baisse) {_SOUND} à {{n}}",
        f"(mettez|réglez|montez|baissez) {_SOUND} {{of}} (à|sur) {{n}}",
        f"(ajuste|change|pousse) {_SOUND} {{of}} (à|sur) {{n}}",
        f"(ajuste|change|pousse) {_SOUND} {{in}} (à|sur) {{n}}",
        "(je veux|je voudrais) le (son|volume) {of} à {n}",
        "(volume|son) {of} à {n}",
    ],
    "alarm": [
        f"{_CAN} (mettre|régler|programmer) (un|le) réveil (à|pour) {{time}}",
        "(peux-tu|tu peux|pourrais-tu|pouvez-vous) me (réveiller|lever) à {time}",
        "(réveillez-moi|levez-moi|tire-moi du lit) à {time}",
        "(ajoute|crée|prépare) (un réveil|une alarme) (à|pour) {time}",
        "je (veux|dois|voudrais) être (debout|réveillé|levé) à {time}",
        "(fais sonner le réveil|sonne le réveil|fais-moi lever) à {time}",
        "à {time} (réveille-moi|fais sonner le réveil|je dois me lever)",
        "il faut (que je me lève|me réveiller|que je sois debout) à {time}",
        "(réveil|alarme) (à|pour) {time}",
    ],
    "vacuum": [
        f"{_CAN} (aspirer|nettoyer|balayer) {{the}}",
        f"{_CAN} (envoyer|lancer|passer) (l'aspirateur|le robot) {{in}}",
        "(aspirez|nettoyez|balayez) {the}",
        "(envoyez|lancez|passez) (l'aspirateur|le robot) {in}",
        "(fais nettoyer|fais aspirer|fais balayer) {the}",
        "(que le robot|que l'aspirateur) (nettoie|aspire) {the}",
        "(c'est sale|c'est poussiéreux|il y a de la poussière|le sol est sale) {in}",
        "(fais le ménage|fais le sol|fais un coup d'aspirateur|donne un coup de balai) {in}",
        "{in} (passe|lance|envoie) (l'aspirateur|le robot)",
        "(dis au robot|demande au robot) de (nettoyer|aspirer) {the}",
    ],
    "music": [
        f"{_CAN} (jouer|mettre|lancer|passer) {{label}} {{in}}",
        "(joue-moi|mets-moi|mets-nous|fais jouer|diffuse) {label} {in}",
        "(jouez|mettez|lancez|passez) {label} {in}",
        "(je veux|je voudrais|j'aimerais) (écouter|entendre) {label} {in}",
        "{in} (je veux|je voudrais|j'aimerais) écouter {label}",
        "{in} (diffuse|mets-moi|mets-nous) {label}",
        "(écoutons|on écoute) {label} {in}",
        "(joue|mets|lance) {label} sur l'enceinte {of}",
        "(j'ai envie d'écouter|envie d'écouter) {label} {in}",
        "{label} {in}",
    ],
    "shopping": [
        f"{_CAN} (ajouter|mettre|écrire|noter) {{label}} (à|sur) (la|ma) (liste de courses|liste)",
        "(ajoutez|mettez|écrivez|notez) {label} (à|sur) (la|ma) (liste de courses|liste)",
        "(à|sur) (la|ma) (liste de courses|liste) (ajoute|mets|écris|note) {label}",
        "(il manque|il me faut|on a besoin de|j'ai besoin de|on n'a plus de|il n'y a plus de) {label}",
        "(n'oublie pas|n'oublions pas|rappelle-moi) d'acheter {label}",
        "(je dois|on doit|nous devons|il faudra) acheter {label}",
        "(inscris|rajoute|marque) {label} (à|sur|dans) (la|ma) (liste de courses|liste)",
        "{label} sur (la|ma) (liste de courses|liste)",
        "(à acheter|liste de courses) {label}",
    ],
}

MORE_PLACES = """la petite chambre|la grande chambre|la chambre du fond|la chambre bleue|la chambre de Paul|
le bureau du haut|la salle de cinéma|la salle de couture|la salle de réunion|la salle de lecture|
la salle d'attente|la salle du bas|le coin cuisine|le coin repas|le coin café|le jardin d'hiver|
le grand salon|le salon d'été|le salon du bas|la cuisine d'été|la vieille cuisine|
la nouvelle cuisine|la cave à vin|le local à vélos|le local technique|le toit terrasse|
la pièce à vivre|la pièce du fond|l'arrière-cuisine|l'étage|le premier étage|le deuxième étage|
le rez-de-chaussée|l'aile nord|l'aile sud|l'allée|la porte d'entrée|le portail|les toilettes|
la cabane|le pigeonnier|la niche|le poulailler|la chambre parentale|la chambre du bébé|
la chambre d'Anna|le dortoir|la suite|la cheminée|l'antichambre|l'accueil|la réception|la cantine|
le fumoir|la tour|le grenier à foin|la salle de bal|l'office"""
MORE_LABELS = {
    "timer": "les œufs durs|la tarte aux pommes|le gâteau au chocolat|le pain à l'ail|les haricots verts|"
    "la machine à laver|le sèche-linge|la pause café|le thé noir|le riz complet|la soupe de tomates|"
    "le jeu vidéo|la partie de cartes|le masque|la coloration|le ragoût|les crêpes|le steak|"
    "la pâte à pain|le gratin de légumes|l'appel|l'infusion",
    "music": "de la musique classique|du jazz doux|du rock français|les infos du soir|France Inter|"
    "le bruit de la pluie|un podcast|de la musique calme|de la guitare|des chansons d'amour|"
    "des chants de Noël|ma liste préférée|Beethoven|de la bossa nova|Jacques Brel|Édith Piaf|"
    "des musiques de film|la radio locale|quelque chose de calme|du gospel",
    "shopping": "papier toilette|lessive liquide|liquide vaisselle|pain complet|vin blanc|vin rouge|eau gazeuse|"
    "lait d'avoine|nourriture pour chat|ampoules|sacs poubelle|levure chimique|beurre de cacahuète|"
    "glace à la vanille|petits pois|blanc de poulet|crème fraîche|sauce soja|poivre noir|deux citrons|"
    "six œufs|un kilo de farine|un sac de riz|une bouteille de lait|sachets de thé|basilic frais|"
    "chocolat noir|pommes de terre|salade|jambon|poires",
}
