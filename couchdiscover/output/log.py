"""The log on stderr: text or JSON, one line for each change."""

import json
import logging
import sys
import time
from collections.abc import Callable

from couchdiscover.output.redaction import Redactor

LOGGER = logging.getLogger("couchdiscover")


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
