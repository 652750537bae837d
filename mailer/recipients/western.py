"""Whether a text that was read as Windows-1252 has the words of a language that Windows-1252 is for.

Turkish, Croatian, Hungarian, Romanian or Lithuanian text read so looks like text, too: `Ayşe` becomes `Ayþe`. A word is strange
that no language of Western Europe would write like that. A name that is strange in one language and right in another
(`Novotný`) is rare in a list of the first: it is their share that counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

MOST_STRANGE: Final = 0.03  # of the words with a letter outside ASCII
MOST_WORDS: Final = 20_000  # that are looked at
EXAMPLES: Final = 5
MAX_WORD: Final = 40  # characters of an example

# Letters outside ASCII by language. Icelandic is left out: its þ, ð and ý are what Turkish becomes.
_ALPHABETS = tuple(
    map(
        frozenset,
        (
            "äöüß",  # German
            "àâæçéèêëîïôœùûüÿ",  # French
            "áéíóúüñçàèòï",  # Spanish, Catalan, Galician
            "áâãàçéêíóôõúü",  # Portuguese
            "àèéìíîòóùú",  # Italian
            "åäöæøéüáèàóô",  # Danish, Norwegian, Swedish, Finnish
            "éëïöüèáóíúê",  # Dutch, Irish
            "ëç",  # Albanian
        ),
    )
)
_ANY = frozenset("šžŠŽ")  # at the same place in Windows-1250
_SIGNS = frozenset("ªº")
_WORD = re.compile(r"[^\W\d_]*[^\x00-\x7f\W\d_][^\W\d_]*")
_VOWELS = "aeiouyàâãáäåæèéêëìíîïòóôõöøùúûü"
# Letters where those languages do not have them.
_STRANGE = re.compile(
    r"[ªº](?=[^\W\d_])|(?<=[^\W\d_]{4})[ªº]"  # ordinals: `1º`, `Nº`, `Mª`
    r"|[¹²³]"
    r"|iæ"  # Croatian -ić
    rf"|è(?=[{_VOWELS}])|(?<![^\W\d_])è(?=[^\W\d_])"  # č
    r"|õ(?!e)"  # ő: Portuguese has õ before an e
    r"|ã(?=[^\W\d_])(?![oes])",  # ă: Portuguese has ã before o and e, and at the end
)


def words(text: str) -> Iterator[str]:
    """Those with a letter outside ASCII."""
    return (match[0] for match in islice(_WORD.finditer(text), MOST_WORDS))


def is_strange(word: str) -> bool:
    letters = {one for one in word.lower() if not one.isascii()} - _ANY
    if _STRANGE.search(word.lower()):
        return True
    letters -= _SIGNS
    return not any(letters <= alphabet for alphabet in _ALPHABETS)


def examples(text: str) -> tuple[tuple[str, ...], bool]:
    """Some words as they were read, the strange ones first; and whether so many are that it is likely another encoding."""
    found = list(words(text))
    strange = [word for word in found if is_strange(word)]
    shown = tuple(islice((word[:MAX_WORD] for word in dict.fromkeys([*strange, *found])), EXAMPLES))
    return shown, len(strange) > MOST_STRANGE * len(found)
