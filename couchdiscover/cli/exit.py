"""How a run ends: the one place that makes an exit code of what came of it, and tells it."""

import logging
import os
import sys
from pathlib import Path

from couchdiscover.cli.options import Options
from couchdiscover.cli.settings import LogSettings, build_log_settings
from couchdiscover.errors import CouchdiscoverError, Interrupted, UsageProblem
from couchdiscover.output.log import LOGGER, Output, conclude, set_up
from couchdiscover.output.redaction import Redactor
from couchdiscover.output.report import Record, Report, termination_message

DEFAULT_TERMINATION_LOG = Path("/dev/termination-log")


def start_log(chosen: LogSettings, redactor: Redactor) -> Output:
    """Begins the log."""
    output = set_up(chosen.format, chosen.level, redactor)
    for remark in chosen.remarks:
        LOGGER.warning(remark)
    return output


def failed(record: Record, error: BaseException, elapsed_seconds: float) -> Report:
    """The report of a run that an error has ended; one that is none of ours is a bug."""
    if isinstance(error, CouchdiscoverError | Interrupted):
        return Report(record, error.result, error.exit_code, str(error), elapsed_seconds)
    text = "this is a bug in couchdiscover; the log has the traceback"
    LOGGER.error(text, exc_info=error)
    return Report(record, "error", 1, text, elapsed_seconds)


def end(report: Report, options: Options, redactor: Redactor) -> int:
    """Tells the result on stdout, its reason to Kubernetes and in the log; returns the exit code.

    A signal that comes meanwhile (whoever reads may have stopped reading) ends this at once.
    """
    try:
        _tell(report, options, redactor)
    except Interrupted as error:
        return error.exit_code
    return report.exit_code


def _tell(report: Report, options: Options, redactor: Redactor) -> None:
    if options.wants_json:
        from couchdiscover.output.json import as_json

        text = as_json(report, redactor.clean)
    else:
        from couchdiscover.output.text import as_text

        text = as_text(report, redactor.clean, colour=_wants_colour())
    print(text, flush=True)  # noqa: T201
    _leave_message(redactor.clean(report.message), options.termination_log)
    conclude(logging.INFO if report.exit_code == 0 else logging.ERROR, report.message)


def ensure_log(options: Options, redactor: Redactor) -> None:
    """Has a log where there is none yet, as it was asked for if that can be read."""
    if LOGGER.handlers:
        return
    try:
        start_log(build_log_settings(options, os.environ), redactor)
    except UsageProblem:
        start_log(LogSettings(), redactor)


def _leave_message(message: str, path: str | None) -> None:
    """Writes the termination message where it was asked for, or where Kubernetes looks for it."""
    target = Path(path) if path else DEFAULT_TERMINATION_LOG
    if path or (target.exists() and os.access(target, os.W_OK)):
        try:
            target.write_text(termination_message(message), encoding="utf-8")
        except OSError as error:
            LOGGER.warning(f"the termination message cannot be written: {error.strerror}")


def _wants_colour() -> bool:
    """Whether stdout is a terminal that shows colours, and nobody minds (https://no-color.org)."""
    environment = os.environ
    return (
        sys.stdout.isatty()
        and not environment.get("NO_COLOR")
        and environment.get("TERM") != "dumb"
    )
