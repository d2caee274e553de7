"""Guesses the language of words: by their script, and in the Latin script by their function words."""

import functools
from collections import Counter
from collections.abc import Set as AbstractSet

# Function words of each language that Snowball stems, in lower case. The language is guessed by them, and questions are
# searched without them. English also has the words that questions begin with.
STOP_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "english": """
            a about after all also am an and any are as at be been before being but by can could did do does doing for
            from further had has have having he her here hers him his how i if in into is it its itself just may me
            might more most must my no nor not of off on once only or other our ours out over own please same shall she
            should so some such tell than that the their theirs them then there these they this those through to too
            under until up upon very was we were what when where which while who whom whose why will with would you
            your yours""",
        "german": """
            aber alle als also am an auch auf aus bei bin bis bist da damit dann das dass dem den denn der des die dies
            diese dieser dieses du durch ein eine einem einen einer eines er es für hat hatte ich ihr ihre im in ist ja
            kann kein keine können mit nach nicht noch nur ob oder ohne sein seine sich sie sind so über um und uns
            unter vom von vor wann war waren warum was welche welcher welches wenn wer werden wie wieder wir wird wo
            wurde wurden zu zum zur""",
        "french": """
            à alors au aucun aussi aux avec avoir c ce ces cette comme comment d dans de des du elle elles en est et été
            être eux fait il ils j je l la le les leur leurs lors lui m mais me même mes mon n ne nos notre nous on ont
            ou où par pas peut plus pour pourquoi qu quand que quel quelle quelles quels qui s sa sans se ses si son
            sont sur t ta te tes ton tous tout toute un une vos votre vous y""",
        "spanish": """
            a al algo ante antes como cómo con contra cual cuál cuales cuando cuándo de del desde donde dónde dos el él
            ella ellas ellos en entre era es esa ese eso esta está están este esto estos fue ha hasta hay la las le les
            lo los más me mi mientras muy no nos o para pero por porque puede que qué quien quién se según ser si sí sin
            sobre son su sus también tiene todo todos un una uno unos y ya""",
        "portuguese": """
            a ao aos às até com como da das de dela dele deles depois do dos e é ela elas ele eles em entre era essa
            esse esta está este eu foi foram há isso isto já lhe mais mas me mesmo meu minha muito na não nas nem no nos
            nós o onde os ou para pela pelas pelo pelos por porque qual quais quando que quem são se sem ser seu seus só
            sua suas também tem um uma você""",
        "italian": """
            a ad agli ai al alla alle allo anche c che chi ci come con cosa cui da dagli dai dal dalla dalle degli dei
            del della delle dello di dove e è ed era essere fra gli ha hanno i il in io l la le lo loro ma mi nei nel
            nella nelle nello noi non o per perché più può qual quale quali quando quanto quello questa questo se si
            sia sono su sua sugli sui sul sulla sulle suo tra tu un una uno""",
        "dutch": """
            aan al alle als bij dan dat de deze die dit doen door dus een en er geen haar had heb hebben heeft het hij
            hoe hun ik in is je kan kunnen maar me meer met mijn moet na naar niet nog nu of om onder ons ook op over
            te tot u uit uw van veel voor waar waarom wanneer want waren was wat we welke werd wie wij wordt worden zal
            ze zich zij zijn zo zou""",
        "swedish": """
            alla att av bara blev bli de dem den denna det detta dig din du där efter eller en er ett finns från får för
            ha hade han har hon hur i icke inte ja jag kan kunde man med mellan men mig min mot mycket ni nu när någon
            något och om oss på sedan sig sin ska skulle som så till under upp ut utan vad var varför vem vi vid vilka
            vilken vilket är""",
        "danish": """
            af alle at blev bliver da de dem den denne der deres det dette dig din du efter eller en er et for fra få
            gør ham han hans har havde her hun hvad hvem hver hvilken hvis hvor hvordan hvorfor hvornår i ikke ind jeg
            kan man med meget men mig min mod må når nogle noget nu og også om op over på sig skal som så til ud under
            var vi vil være været""",
        "norwegian": """
            alle at av ble bli da de dem den denne der dere det dette du eller en enn er et etter for fra få før ha
            hadde han hans har hun hva hvem hvilken hvis hvor hvordan hvorfor i ikke inn jeg kan man med meg mellom men
            mer min mot må noe noen nå når og også om opp oss over på seg si sin skal som så til ut uten var ved vi vil
            være vært å""",
        "finnish": """
            ei eivät eli en että ettei hän he ja jo joka jos jossa jotka joten kanssa koska kuin kuinka kuka kun me mikä
            miksi milloin missä miten mitä mukaan mutta myös ne niin nyt olen oli olisi olla on ovat sekä sen se siitä
            sillä tai tämä tämän te tuo vaan vai vain voi""",
        "hungarian": """
            a az azt ami amely amelyek amikor be csak de e egy egyik el én és ez ezek ezt fel hogy hogyan ha hol is ki
            kell kik ki le lesz lett már meg mely melyik mert mi mikor miért mint mit még nagyon nem nincs ő őket olyan
            össze pedig például sem ők után vagy van vannak volt voltak""",
        "romanian": """
            a acest această aceste acestea ai al ale am ar are asupra au avea ca când care ce cel cea cei cele cine cu
            cum că dar de deci decât despre din dintre după ei el ele era este eu fi fie fost iar îl în între la le lor
            lui mai nu o or pe pentru prin sa sau să se si și sunt până un unde unei unor unui va vor""",
        "turkish": """
            acaba ama ancak arasında ben bir biri birçok biz bu bunu bunun çok çünkü da daha de değil diye en gibi göre
            hangi hem hep her için ile ise kadar kez ki kim mi mı mu mü nasıl ne neden nerede o olan olarak oldu olduğu
            olur onlar onu onun sadece siz sonra şey şu tüm var ve veya ya yani yok zaman""",
        "catalan": """
            a això al als amb aquest aquesta aquests com d de del dels des el ella ells els em en entre és era eren es
            està fins hi ha han i l la les li llavors més mateix molt ni no o on per però perquè pot qual quan que què
            qui s sense ser seu seva si sobre són també té tots un una unes uns va""",
        "polish": """
            a aby ale bardzo bez być był była było były co czy dla do gdy gdzie go i ich ile im ja jak jaki jako je jego
            jej jest jeszcze już każdy kiedy kto które który lub ma mnie może na nad nie niż o od on ona oni oraz po pod
            przed przez przy są się tak także tam te tego ten to tu tylko tym w we więc wszystko z za ze że""",
        "czech": """
            a aby ale ani až bez bude by byl byla bylo byly co což či do dále ho i já jak jako je jeho její jejich jen
            ještě již jsem jsme jsou k kde kdo kdy když která které který ke má mezi mi může na nad nebo není než o od
            on ona pak po pod podle pokud pro proč při s se si tak také tato tento to u už v ve však z za ze že""",
        "indonesian": """
            ada adalah agar akan anda antara apa apakah atau bagaimana bagi bahwa beberapa bisa dalam dan dapat dari
            dengan di dia ini itu jika juga kami kapan karena ke kepada kita lebih maka mana mereka mengapa oleh pada
            para saat saja sangat saya sebagai sebuah secara sehingga seperti serta setelah siapa sudah telah tersebut
            tetapi tidak untuk yaitu yang""",
        "russian": """
            а без бы был была были было быть в вам вас во вот все всех вы где да для до его ее её если есть ещё же за и
            из или им их к как какая какие какой когда который которые кто ли между меня мне может мы на над нас не него
            нее нет ни них но о об однако он она они оно от по под при про с себя со так также там то того только том ты
            у уже что чтобы эта эти это этого этот я""",
        "greek": """
            αλλά αν από για δε δεν είναι ένα ένας έχει η ήταν θα και κατά με μετά μέχρι μη μια μόνο να ο οι όπως ότι ου
            πιο ποια ποιος που πού πότε προς πως πώς σαν σε στα στη στην στις στο στον στους τα τη την της τι τις το τον
            του τους των ως""",
        "arabic": "في من على إلى عن أن إن هذا هذه التي الذي ما لا كان كانت هو هي هل كيف متى أين لماذا مع أو ثم قد كل",
        "hindi": "का की के में है हैं और से को पर यह वह एक नहीं भी तो ही कि जो था थी थे क्या कैसे कब कहाँ क्यों लिए इस उस ने",
        "tamil": "ஒரு இந்த அந்த மற்றும் என்று என இது அது உள்ள என்ன எப்படி எங்கே எப்போது ஏன் யார் மேலும் தான்",
        "armenian": "և է են էր ու որ ի մի այս այդ այն իր թե եթե ինչ ինչպես երբ որտեղ ով համար հետ մեջ բայց կամ",
    }.items()
}
DEFAULT = "english"  # of Latin text with no function words: tables, code, names
_BY_SCRIPT = (  # first and last character of a script, and its language
    ("\u0370", "\u03ff", "greek"),
    ("\u0400", "\u052f", "russian"),
    ("\u0530", "\u058f", "armenian"),
    ("\u0600", "\u06ff", "arabic"),
    ("\u0900", "\u097f", "hindi"),
    ("\u0b80", "\u0bff", "tamil"),
)
LATIN = tuple(language for language in STOP_WORDS if language not in {of_script for *_, of_script in _BY_SCRIPT})


def language_of_word(word: str) -> str | None:
    """Return the language of the word's script; None for a script that many languages share."""
    for first, last, language in _BY_SCRIPT:
        if first <= word[0] <= last:
            return language
    return None


def guess_latin(words: AbstractSet[str], least: int) -> str:
    """Return the Latin language with the most function words among these lower-case words, `DEFAULT` below `least`."""
    by_word = _languages_by_word()
    votes = Counter(language for word in by_word.keys() & words for language in by_word[word])
    if not votes:
        return DEFAULT
    best = max(votes, key=lambda language: (votes[language], language == DEFAULT, language))
    return best if votes[best] >= least and votes[best] > votes[DEFAULT] else DEFAULT


@functools.cache
def _languages_by_word() -> dict[str, list[str]]:
    by_word: dict[str, list[str]] = {}
    for language in LATIN:
        for word in STOP_WORDS[language]:
            by_word.setdefault(word, []).append(language)
    return by_word
