"""What must never be printed, taken out of texts before they are."""

import base64
import json
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, quote_plus

MASK = "***"

SHORTEST = 3
"""Characters of the shortest secret that is masked; a shorter one would mask everything."""


def _no_names() -> Iterable[str]:
    return ()


class Redactor:
    """Takes secrets out of texts, as they are and as they travel: URL-encoded, base64, JSON.

    Nothing here writes a secret on purpose; this is for what comes from outside, such as an error's
    text that repeats what was sent.

    ``names`` gives the names that are known to be none, at the moment of the call: a password that
    is ``couchdb`` must not mask each pod's name. A part of such a name is not masked; a whole one
    that is the secret itself is.
    """

    def __init__(self, names: Callable[[], Iterable[str]] = _no_names) -> None:
        self._names = names
        self._hidden: list[str] = []

    def hide(self, *secrets: str) -> None:
        """Has values masked from now on, in every form in which they travel."""
        for secret in secrets:
            data = secret.encode(errors="surrogateescape")  # as the environment was decoded
            forms = {secret, secret.strip(), quote(data, safe=""), quote_plus(data)}
            forms |= {json.dumps(secret, ensure_ascii=only)[1:-1] for only in (True, False)}
            forms |= {repr(secret)[1:-1], repr(data)[2:-1]}
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                encoded = encode(data).decode()
                forms |= {encoded, encoded.rstrip("=")}
            self._hidden += [
                form for form in forms if len(form) >= SHORTEST and form not in self._hidden
            ]
        self._hidden.sort(key=len, reverse=True)

    def hide_environment(self, environment: Iterable[tuple[str, str]]) -> None:
        """Has the values of variables masked whose names say that they are secret."""
        for name, value in environment:
            if name.endswith(("PASS", "PASSWORD", "TOKEN", "COOKIE", "SECRET")):
                self.hide(value)

    def clean(self, text: str) -> str:
        """The text without any of them."""
        found = [secret for secret in self._hidden if secret in text]
        if not found:
            return text
        names = _whole_words(self._names())
        for secret in found:
            text = _mask(text, secret, names)
        return text


def _whole_words(names: Iterable[str]) -> re.Pattern[str]:
    """Any of the names, the longest first, where it is no part of a longer one."""
    longest_first = sorted({name for name in names if name}, key=len, reverse=True)
    alternatives = "|".join(map(re.escape, longest_first)) or r"(?!)"
    return re.compile(rf"(?<![\w.@-])(?:{alternatives})(?![\w@-]|\.\w)")


def _mask(text: str, secret: str, names: re.Pattern[str]) -> str:
    spared = [match.span() for match in names.finditer(text)]

    def masked(match: re.Match[str]) -> str:
        start, end = match.span()
        is_part = any(a <= start and end <= b and (a, b) != (start, end) for a, b in spared)
        return match[0] if is_part else MASK

    return re.sub(re.escape(secret), masked, text)
