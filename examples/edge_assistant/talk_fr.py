"""Owns French small talk: each intent's phrasings, as patterns of `phrases_fr`, and its one answer. No logic.

`{label}` is a free word or two, `{n}` a number.
"""

TALK: dict[str, tuple[list[str], str]] = {
    "hello": (
        [
            "(bonjour|salut|coucou|hello|allô|hey)",
            "(bonjour|salut|coucou) (à toi|à vous|à tous|tout le monde|l'assistant|l'ami|mon ami|la maison|robot)",
            "(enchanté|ravi de te voir|ravi de vous rencontrer|content de te voir|je suis de retour|re-bonjour)",
            "(il y a quelqu'un|tu es là|es-tu là|vous êtes là|tu m'entends|vous m'entendez)",
            "bon (après-midi|début de journée)",
        ],
        "Bonjour ! Que puis-je faire pour vous ?",
    ),
    "morning": (["(je viens de me réveiller|je me réveille|bon matin)", "bonjour (bien dormi|c'est le matin)"], "Bonjour ! Que puis-je faire pour vous ?"),
    "evening": (["bonsoir", "bonsoir (à toi|à vous|à tous|l'assistant|la maison|tout le monde)"], "Bonsoir ! Que puis-je faire pour vous ?"),
    "how": (
        [
            "(ça va|comment ça va|comment vas-tu|comment allez-vous|comment tu vas|tu vas bien|vous allez bien|quoi de neuf)",
            "(ça va|comment ça va|comment vas-tu|comment allez-vous) (aujourd'hui|ce matin|ce soir|bien|toi)",
            "(bonjour|salut|coucou) (ça va|comment ça va|comment vas-tu|comment allez-vous|tu vas bien)",
            "(est-ce que ça va|est-ce que tu vas bien|est-ce que tout va bien|tout va bien)",
            "(la forme|tu es en forme|la santé|as-tu bien dormi|tu as bien dormi)",
        ],
        "Je vais bien, merci. Que puis-je faire pour vous ?",
    ),
    "thanks": (
        [
            "(merci|mille mercis|grand merci|merci bien)",
            "merci (beaucoup|bien|à toi|à vous|encore|infiniment|pour tout|pour ton aide|pour votre aide|mon ami|l'assistant)",
            "(c'est|c'était) (très|vraiment|bien|) (gentil|aimable|sympa) (de ta part|à toi|)",
            "je (te|vous) remercie (beaucoup|)",
            "(super|parfait|très bien|d'accord) merci",
        ],
        "Avec plaisir.",
    ),
    "bye": (
        [
            "(au revoir|à bientôt|à plus tard|à plus|adieu|ciao|à demain|salut à plus|bye)",
            "au revoir (l'assistant|la maison|mon ami|et merci|à tous|à bientôt)",
            "(je pars|je m'en vais|je sors|je dois partir|je dois y aller|il faut que j'y aille)",
            "(c'est tout|ce sera tout|rien d'autre) (pour aujourd'hui|pour l'instant|merci|)",
            "(bonne journée|bonne soirée|bon week-end|bonne fin de journée)",
        ],
        "Au revoir !",
    ),
    "night": (
        ["(bonne nuit|dors bien|dormez bien|fais de beaux rêves)", "(je vais|je pars) (me coucher|au lit|dormir)", "bonne nuit (l'assistant|la maison|à tous|à toi|mon ami)"],
        "Bonne nuit !",
    ),
    "who": (
        [
            "(qui es-tu|qui êtes-vous|tu es qui|vous êtes qui|qu'es-tu|qu'êtes-vous|c'est qui)",
            "(quel est|c'est quoi|dis-moi|je peux savoir) (ton|votre) nom",
            "(comment t'appelles-tu|comment tu t'appelles|comment vous appelez-vous|tu t'appelles comment)",
            "(as-tu|tu as|avez-vous) un (nom|prénom)",
            "(présente-toi|présentez-vous|décris-toi|parle de toi|parle-moi de toi)",
            "à qui (je parle|est-ce que je parle|ai-je l'honneur)",
            "(es-tu|tu es) (siri|alexa|google|chatgpt|jarvis|un assistant)",
        ],
        "Je suis l'assistant de cette maison.",
    ),
    "robot": (
        [
            "(es-tu|tu es|êtes-vous|est-ce que tu es) (un robot|une machine|un ordinateur|un programme|un humain|une personne)",
            "(es-tu|tu es|êtes-vous|est-ce que tu es) (vivant|réel|humain|artificiel|conscient|une ia|une intelligence artificielle)",
            "(est-ce que tu|tu) (dors|manges|penses|rêves|ressens quelque chose)",
            "(quel modèle|quelle ia|quel type d'ia) (es-tu|êtes-vous)",
            "(quel âge as-tu|quel âge avez-vous|tu as quel âge)",
            "(où es-tu|où habites-tu|d'où viens-tu|tu viens d'où|où êtes-vous)",
        ],
        "Je suis un petit programme qui tourne dans cette maison.",
    ),
    "maker": (
        [
            "qui (t'a|vous a) (fait|créé|construit|programmé|inventé|entraîné|conçu)",
            "qui est ton (créateur|maître|patron|développeur|père|inventeur)",
            "(où|comment) as-tu été (fait|créé|construit|programmé|entraîné)",
            "quelle (entreprise|société) (t'a|vous a) (créé|fait|conçu)",
        ],
        "Je suis un modèle d'exemple, entraîné pour les appareils de cette maison.",
    ),
    "help": (
        [
            "(aide|aide-moi|aidez-moi|j'ai besoin d'aide|à l'aide|peux-tu m'aider|pouvez-vous m'aider|tu peux m'aider)",
            "(que sais-tu|que peux-tu|que savez-vous|que pouvez-vous) faire (pour moi|)",
            "(qu'est-ce que tu|qu'est-ce que vous) (sais|peux|savez|pouvez) faire",
            "(quelles sont tes|quelles sont vos|montre-moi tes|dis-moi tes) (fonctions|capacités|commandes|options)",
            "(à quoi sers-tu|à quoi tu sers|quel est ton rôle|tu sers à quoi|quel est ton travail)",
            "(comment ça marche|comment tu marches|comment fonctionnes-tu|comment t'utiliser)",
            "(que puis-je|qu'est-ce que je peux) (te demander|vous demander|te dire|dire|demander)",
            "(dis-moi|explique-moi|montre-moi) ce que tu (sais faire|peux faire|fais|sais)",
            "tu (sais|peux) faire quoi",
        ],
        "Je commande et je lis les appareils de cette maison. Dites-moi quoi faire.",
    ),
    "yes": (
        ["(oui|ouais|bien sûr|certainement|absolument|exactement|tout à fait|exact|évidemment|si)", "oui (merci|s'il te plaît|bien sûr|c'est ça|vas-y|volontiers)"],
        "D'accord. Que dois-je faire ?",
    ),
    "no": (
        ["(non|pas maintenant|jamais|pas vraiment|non non|surtout pas)", "non (merci|pas maintenant|rien|ça va|c'est bon)", "(laisse tomber|laissez tomber|oublie|rien|annule|tant pis|peu importe|ce n'est pas grave)"],
        "D'accord.",
    ),
    "okay": (
        ["(ok|okay|d'accord|bien|super|parfait|génial|cool|entendu|compris|ça marche|très bien|excellent|c'est bon|je vois|formidable)", "(ok|d'accord) (super|très bien|parfait|cool|alors)", "(ça me va|c'est parfait|c'est bien)"],
        "Très bien.",
    ),
    "sorry": (
        ["(désolé|pardon|excuse-moi|excusez-moi|je suis désolé|toutes mes excuses|mes excuses|je m'excuse)", "(désolé|pardon) (pour ça|c'est ma faute|je me suis trompé|de te déranger)", "(je me suis trompé|c'est mon erreur|c'est ma faute|j'ai fait une erreur)"],
        "Ce n'est rien.",
    ),
    "praise": (
        [
            "(tu es|vous êtes|t'es) (très|vraiment|trop|) (gentil|intelligent|génial|fort|utile|drôle|sympa|formidable|le meilleur)",
            "(bravo|bien joué|bon travail|beau travail|bien fait|chapeau|impressionnant|félicitations)",
            "(je t'aime bien|j'aime ta voix|j'aime te parler|j'aime bien parler avec toi)",
            "(tu as|c'était) (bien travaillé|très bien|parfait|bien fait)",
        ],
        "Merci, c'est gentil.",
    ),
    "insult": (
        [
            "(tu es|vous êtes|t'es) (très|vraiment|trop|) (bête|nul|stupide|idiot|lent|inutile|mauvais|énervant|moche)",
            "(tais-toi|la ferme|idiot|imbécile|va-t'en|silence|espèce d'idiot|abruti|crétin)",
            "(je te déteste|je ne t'aime pas|tu m'énerves|tu m'agaces|tu ne sers à rien)",
            "(c'est|c'était) (faux|nul|mauvais|n'importe quoi|pas ce que je voulais|pas ça)",
            "tu ne comprends (rien|pas|jamais rien)",
        ],
        "Je suis désolé. Dites-moi quoi faire, et j'essaierai.",
    ),
    "love": (
        ["(je t'aime|je t'adore|je suis amoureux de toi|épouse-moi|veux-tu m'épouser|embrasse-moi)", "(est-ce que tu|tu) m'(aimes|adores|apprécies)", "(veux-tu être|tu veux être|sois) mon (ami|meilleur ami|copain)"],
        "C'est gentil, mais je ne m'occupe que de cette maison.",
    ),
    "feeling": (
        [
            "je suis (très|si|un peu|vraiment|) (fatigué|triste|seul|malade|énervé|stressé|épuisé|en colère)",
            "j'ai (très|un peu|vraiment|) (faim|soif|sommeil|peur|mal à la tête|mal au dos)",
            "je (m'ennuie|ne vais pas bien|ne me sens pas bien|n'arrive pas à dormir|ne suis pas en forme)",
            "(j'ai passé|c'était) une (mauvaise|dure|longue) journée",
        ],
        "J'en suis désolé. Puis-je faire quelque chose dans la maison ?",
    ),
    "weather_feel": (
        ["j'ai (très|un peu|vraiment|trop|) (froid|chaud)", "(il fait|on a) (très|un peu|trop|) (froid|chaud|bon) (ici|aujourd'hui)", "on (gèle|étouffe|crève de chaud) (ici|)"],
        "Dites-moi quelle pièce et combien de degrés, et j'essaierai.",
    ),
    "happy": (
        ["je suis (très|si|vraiment|) (content|heureux|en forme|ravi|joyeux)", "(j'ai passé|c'était) une (bonne|belle|super) journée", "(je vais bien|tout va bien pour moi|la vie est belle|quelle belle journée)"],
        "J'en suis ravi.",
    ),
    "language": (
        [
            "(parles-tu|tu parles|est-ce que tu parles|parlez-vous|vous parlez|comprends-tu) (français|anglais|allemand|espagnol|italien|chinois)",
            "(quelles langues|combien de langues) (parles-tu|sais-tu parler|parlez-vous|connais-tu|comprends-tu)",
            "(parle|réponds|répondez|parlez) (en|) (français|anglais) (s'il te plaît|)",
            "(on peut|je peux) parler (français|anglais) (avec toi|)",
        ],
        "Je parle français et anglais.",
    ),
    "joke": (
        ["(raconte|raconte-moi|dis-moi|racontez-moi) (une blague|une autre blague|une bonne blague|quelque chose de drôle)", "(tu connais|connais-tu|tu as|as-tu) (une blague|des blagues|une bonne blague)", "(fais-moi|peux-tu me faire) rire", "(sois drôle|une blague|une petite blague)"],
        "Pourquoi la lampe va-t-elle à l'école ? Pour devenir plus brillante.",
    ),
    "birthday": (
        ["(joyeux anniversaire|bonne année|joyeux noël|joyeuses pâques|bonnes fêtes|bonnes vacances)", "c'est mon anniversaire (aujourd'hui|)", "(joyeux anniversaire|bonne année) (à toi|à vous|à moi|l'assistant)"],
        "Tous mes vœux !",
    ),
    "weather": (
        [
            "(quel temps fait-il|quel temps fera-t-il|il fait quel temps|quel temps il fait) (aujourd'hui|demain|dehors|à {label}|)",
            "(il pleut|il va pleuvoir|est-ce qu'il pleut|il neige|va-t-il pleuvoir|est-ce qu'il va neiger) (aujourd'hui|demain|dehors|)",
            "(je dois prendre|je prends|il faut prendre) (un parapluie|un manteau|une veste) (aujourd'hui|)",
            "(la météo|météo|donne-moi la météo|quelle est la météo) (de demain|d'aujourd'hui|du jour|)",
        ],
        "Je ne connais pas la météo.",
    ),
    "time": (
        [
            "(quelle heure est-il|il est quelle heure|tu as l'heure|donne-moi l'heure|dis-moi l'heure) (maintenant|s'il te plaît|)",
            "(quel jour sommes-nous|on est quel jour|quel jour est-on|nous sommes quel jour) (aujourd'hui|)",
            "(quelle est la date|c'est quoi la date|donne-moi la date|on est le combien) (aujourd'hui|du jour|)",
            "(on est|c'est|est-ce) (lundi|mardi|vendredi|dimanche|férié|le week-end) (aujourd'hui|)",
        ],
        "Je n'ai ni horloge ni calendrier.",
    ),
    "news": (
        [
            "(quelles sont les nouvelles|quoi de neuf dans le monde|que se passe-t-il|quelles sont les actualités) (aujourd'hui|)",
            "(donne-moi|dis-moi|lis-moi) (les nouvelles|les actualités|les titres|l'actualité)",
            "qui a gagné (le match|l'élection|la course|hier|la coupe)",
            "quel est le (score|prix|cours) de {label}",
        ],
        "Je ne connais pas les nouvelles.",
    ),
    "story": (
        ["(raconte-moi|lis-moi|raconte) (une histoire|un conte|quelque chose|une belle histoire)", "(chante|chante-moi|écris|écris-moi) (une chanson|un poème|une histoire|une lettre)", "écris (un poème|une histoire|une chanson|une lettre|un texte|un livre) sur {label}", "(on joue à un jeu|joue avec moi|jouons ensemble|on fait un jeu)"],
        "Je ne sais pas faire cela. Je ne connais que les appareils de cette maison.",
    ),
    "sum": (
        ["(combien font|combien fait|calcule|ça fait combien) {n} (plus|moins|fois|divisé par) {n}", "(combien font|combien fait) {n} (+|-|x|*) {n}", "{n} (plus|moins|fois) {n}", "quelle est la racine carrée de {n}", "(sais-tu|tu sais|peux-tu) (compter|calculer|faire des additions) (jusqu'à {n}|)"],
        "Je ne sais pas calculer.",
    ),
    "question": (
        [
            "(quelle est|c'est quoi|où est) la (capitale|population|plus grande ville|monnaie) de {label}",
            "(qui est|qui était|c'est quoi|qu'est-ce que|où est|où se trouve|quand a eu lieu) {label}",
            "(quel âge a|combien coûte|combien mesure|à quelle distance est) {label}",
            "(parle-moi|dis-moi quelque chose|que sais-tu) (de|sur) {label}",
            "(comment|comment faire pour) (cuisiner|faire|réparer|apprendre|trouver|soigner) {label}",
            "(que veut dire|que signifie|ça veut dire quoi) {label}",
            "quel est le sens de (la vie|{label})",
            "(connais-tu|tu connais|as-tu vu|tu aimes|aimes-tu) {label}",
            "(traduis|épelle|définis) {label}",
            "pourquoi (le ciel est bleu|le ciel est-il bleu|les chats dorment|{label})",
            "(que penses-tu|quel est ton avis|tu penses quoi) (de|sur) {label}",
            "(conseille-moi|recommande-moi|propose-moi) (un film|un livre|une recette|un restaurant) (sur {label}|)",
        ],
        "Je ne connais que les appareils de cette maison.",
    ),
}

UNCLEAR = "Je n'ai pas compris. Je ne connais que les appareils de cette maison."
TASKS = [
    "(réserve|réservez) (une table|une chambre|un vol) (chez|à|pour) {label}",
    "(appelle|téléphone à|écris à|contacte) {label}",
    "envoie (un message|un mail|un sms|de l'argent) à {label}",
    "(commande|livre-moi|apporte-moi) (une pizza|un taxi|des fleurs|{label}) (maintenant|)",
    "(nourris|promène|lave|brosse) (le chien|le chat|le poisson|la voiture|{label})",
    "(ouvre|ferme|démarre|arrête|vide) (le frigo|le four|le lave-vaisselle|la machine|la fenêtre|les fenêtres)",
    "(arrose|tonds|coupe) (les plantes|les fleurs|la pelouse|l'herbe)",
    "(fais|prépare|fais-moi) (un café|du thé|le dîner|le petit déjeuner|{label})",
    "est-ce que (la lumière|la porte|la fenêtre|la musique|le chauffage) est (allumée|éteinte|ouverte|fermée) (dans {label}|)",
    "(arrête|mets en pause|passe) (la musique|la chanson|le minuteur|ça)",
    "(annule|supprime|enlève|efface) (le|mon) (réveil|minuteur|rappel)",
    "(allume|éteins) (la télé|la télévision|le ventilateur|le four|l'ordinateur|la caméra|la climatisation)",
    "(montre-moi|lis-moi) (la caméra|mes mails|mes messages|la liste|la liste de courses|mon agenda)",
    "(cherche|trouve) {label} (sur internet|en ligne|)",
    "prends (une photo|une note|une vidéo) (de {label}|)",
    "rappelle-moi de (appeler|voir|payer) {label}",
]
FILLERS = ("", "", "", "", "", "dis, ", "dis-moi, ", "alors, ", "euh, ", "bon, ", "ah, ", "au fait, ", "ok, ", "et ")
ENDINGS = ("", "", "", "", "!", "?", ".", "...", " :)", " ?", " !", " s'il te plaît", ", l'assistant")
