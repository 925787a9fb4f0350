"""The command line: one module a verb, imported when its verb runs."""

from __future__ import annotations

import importlib
import io
import os
import sys

import click

from udpkit.cli.exits import INTERRUPTED, OK, USAGE, Failure

VERBS = {
    "read": "Say what is wrong in captures, tcpdump text, strace logs, ss tables.",
    "watch": "Watch links live, and say what is wrong as soon as that is certain.",
    "check": "Say which clients this host will answer from the wrong address.",
    "lab": "Run experiments on real Linux hosts in namespaces.",
    "probe": "Say of UDP ports whether they are reachable, and how that is known.",
    "fix": "Let programs that nobody can change answer from the right address.",
    "test": "Say from which of its addresses a server answers.",
    "nc": "Netcat that answers from the right address, and says what went wrong.",
    "rule": "The manual page of a finding.",
}
"""Every verb and its one line of help; the verb is the function `verb` of the module of its name."""


class Verbs(click.Group):
    """Knows its verbs by name, and imports a verb's module only to run it or to show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"udpkit.cli.{name}").verb
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    subcommand_metavar="VERB [ARGS]...",
)
@click.version_option(package_name="udpkit", message="%(prog)s %(version)s")
def udpkit() -> None:
    """Why UDP does not get through on Linux, and what to do about it."""


def main() -> None:
    """Run a verb; every way to end has its exit code and, on stderr, at most one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8 shows ? for an arrow
            stream.reconfigure(errors="replace")
    stdout = sys.stdout
    try:
        code = udpkit.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "udpkit"
        say(f"{error.format_message().rstrip('.')}; see {where} --help")
        code = error.exit_code
    except Failure as failure:
        say(str(failure))
        code = failure.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    except SystemExit:
        if sys.stdout is stdout:
            raise
        code = OK  # click has met a broken pipe and put stdout out of use; its 1 is ours for findings
    except OSError as error:
        # Nobody reads our output any more, or its disk is full: Python must not try again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = OK if isinstance(error, BrokenPipeError) else USAGE
        if code:
            say(error.strerror or str(error))
    sys.exit(code)


def say(sentence: str) -> None:
    """One line on stderr, whatever stands in the sentence."""
    from udpkit.facts.text import in_one_line

    click.echo(f"udpkit: {in_one_line(sentence)}", err=True)
