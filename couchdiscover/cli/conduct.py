"""One command from its options to its exit code."""

import gc
import os
from collections.abc import Callable

from couchdiscover.cli.exit import end, ensure_log, failed, start_log
from couchdiscover.cli.options import Options
from couchdiscover.cli.settings import build_log_settings, build_settings
from couchdiscover.errors import Interrupted
from couchdiscover.net.deadline import Deadline
from couchdiscover.output.progress import Progress
from couchdiscover.output.redaction import Redactor
from couchdiscover.output.report import Record, Report


def conduct(command: str, options: Options) -> int:
    """Runs a command and returns the exit code of what came of it."""
    record = Record(command)
    redactor = _redactor(record)
    started = Deadline(0)
    try:
        log = build_log_settings(options, os.environ)
        output = start_log(log, redactor)
        settings = build_settings(options, os.environ)
        story = _story(command)
        gc.freeze()  # see __main__; from here on there may be much to wait for, and garbage
        gc.enable()
        once = settings.dry_run or (command == "check" and not settings.wait)
        started = Deadline(0 if once else settings.timeout)
        live = log.format == "text" and not options.wants_json
        with Progress(output, started, enabled=live) as progress:
            message = story(
                settings,
                started,
                record,
                on_secret=lambda user, password: redactor.hide(password, f"{user}:{password}"),
                on_look=progress.show,
            )
        report = Report(record, "done", 0, message, started.elapsed)
    except (Interrupted, Exception) as error:  # noqa: BLE001 - a bug gets its exit code, too
        ensure_log(options, redactor)
        report = failed(record, error, started.elapsed)
    return end(report, options, redactor)


def give_up(command: str, options: Options, error: BaseException) -> int:
    """Reports what ended a command before it began, and returns the exit code."""
    record = Record(command)
    redactor = _redactor(record)
    ensure_log(options, redactor)
    return end(failed(record, error, 0.0), options, redactor)


def _redactor(record: Record) -> Redactor:
    redactor = Redactor(record.names)
    redactor.hide_environment(os.environ.items())
    return redactor


def _story(command: str) -> Callable[..., str]:
    """What does the work of a command; imported here, so that a run costs what it uses."""
    match command:
        case "check":
            from couchdiscover.check import assess

            return assess
        case "adopt":
            from couchdiscover.adopt import adopt

            return adopt
        case _:
            from couchdiscover.run import assemble

            return assemble
