"""What a template can use of a recipient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ..ledger.spec import Entry
from ..recipients.names import variable


def own_variables(entry: Entry) -> Mapping[str, Any]:
    """The row's own values under their names, and `First Name` under `first_name` as well."""
    data = entry.data
    if words := _other_words(tuple(data)):
        return {**{word: data[name] for word, name in words}, **data}
    return data


@lru_cache(maxsize=16)  # the rows of a list have the same names, and few lists are sent at a time
def _other_words(names: tuple[str, ...]) -> Sequence[tuple[str, str]]:
    """The words for names that are none themselves; without a word that two names share, and one that is a name itself."""
    words = {name: word for name in names if (word := variable(name)) and word != name}
    count = Counter(words.values())
    return tuple((word, name) for name, word in words.items() if count[word] == 1 and word not in names)
