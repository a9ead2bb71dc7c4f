"""The log on stderr: text or JSON, one line for each change; and what must never be printed."""

import base64
import json
import logging
import sys
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

LOGGER = logging.getLogger("couchdiscover")

MASK = "***"


class Redactor:
    """Takes secrets out of texts, as they are and as they travel: URL-encoded, base64, JSON.

    Nothing here writes a secret on purpose; this is for what comes from outside, such as an error's
    text that repeats what was sent.
    """

    def __init__(self) -> None:
        self._hidden: list[str] = []

    def hide(self, *secrets: str) -> None:
        """Has values masked from now on; those of one or two characters would mask everything."""
        for secret in secrets:
            data = secret.encode(errors="surrogateescape")  # as the environment was decoded
            forms = {secret, secret.strip(), quote(data, safe=""), quote_plus(data)}
            forms |= {json.dumps(secret, ensure_ascii=only)[1:-1] for only in (True, False)}
            forms |= {repr(secret)[1:-1], repr(data)[2:-1]}
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                encoded = encode(data).decode()
                forms |= {encoded, encoded.rstrip("=")}
            self._hidden += [form for form in forms if len(form) > 2 and form not in self._hidden]
        self._hidden.sort(key=len, reverse=True)

    def clean(self, text: str) -> str:
        """The text without any of them."""
        for secret in self._hidden:
            text = text.replace(secret, MASK)
        return text


class _Formatter(logging.Formatter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        text = self._redactor.clean(record.getMessage())
        if record.exc_info:
            text += "\n" + self._redactor.clean(self.formatException(record.exc_info))
        return self._line(at, record.levelname, text)

    def _line(self, at: str, level: str, text: str) -> str:
        return f"{at} {level:<7} {text}"


class _JsonFormatter(_Formatter):
    def _line(self, at: str, level: str, text: str) -> str:
        return json.dumps({"time": at, "level": level.lower(), "message": text}, ensure_ascii=False)


class Output(logging.Handler):
    """Writes log lines, around a progress line where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.write: Callable[[str], None] = _to_stderr

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record; a closed stderr is no reason to fail."""
        try:
            self.write(self.format(record))
        except (OSError, ValueError):
            self.write = lambda _: None


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def conclude(level: int, text: str) -> None:
    """Writes the last line, the reason: a thread that was left behind has no more to say."""
    for output in LOGGER.handlers:
        if not isinstance(output, Output):
            continue
        output.acquire()  # or a line that was begun before came after this one
        try:
            LOGGER.log(level, text)
            output.write = lambda _: None
        finally:
            output.release()


def set_up(log_format: str, level: str, redactor: Redactor) -> Output:
    """Configures this program's logger, and no other's."""
    output = Output()
    output.setFormatter(_JsonFormatter(redactor) if log_format == "json" else _Formatter(redactor))
    LOGGER.handlers = [output]
    LOGGER.setLevel(level)
    LOGGER.propagate = False
    return output
