"""The page's server: bound to an address of this machine, and ended by Ctrl-C."""

from __future__ import annotations

import getpass
import secrets
import socket
import webbrowser
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.atomic import OutputError
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.findings import AUDIT_FILE
from dpmo_cli.outputs.locking import hold, in_use
from dpmo_cli.outputs.run_file import no_run
from dpmo_cli.review.decisions import Decisions
from dpmo_cli.review.desk import Desk
from dpmo_cli.review.run_index import missing_photos, open_run

LOCAL = ("127.0.0.1", "localhost", "::1")
_BACKLOG = 128
_EVERYWHERE = ("0.0.0.0", "::", "")


def serve(
    out: Path,
    *,
    root: Path | None,
    host: str,
    port: int,
    reviewer: str | None,
    open_browser: bool,
    ready: Callable[[str], None],
    log: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    """Serve the review page of a run until the process is told to end.

    Args:
        out: the folder of the run.
        root: of the photos; None for the one that the run names.
        host: address to bind.
        port: to bind; 0 takes a free one.
        reviewer: who decides; None for the login name.
        open_browser: whether to open the page.
        ready: is told the page's address once connections are taken.
        log: takes one line for each refused request.
        warn: takes a line where photos of the run are not there; the page works without them.

    Raises:
        UsageError: there is no finished run, a run is being written there, no such root, or the
            port is taken.
        InputError, DecisionsError: the queue or the log of decisions can't be read.
    """
    import uvicorn

    from dpmo_cli.review.app import create_app

    _require_quiet(out)
    run, index = open_run(out, root)
    if (away := missing_photos(run, index)) is not None:
        warn(away)
    name = reviewer or _login()
    with closing(_bound(host, port)) as listening, Decisions(out) as decisions:
        decisions.require_whole()
        bound = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        names = {shown, "127.0.0.1", "localhost"} if host in LOCAL else {shown}
        app = create_app(
            Desk(run, index, decisions, name, _audit(out)),
            hosts=frozenset(f"{one}:{bound}".lower() for one in names),
            token=secrets.token_urlsafe(24),
            log=log,
        )
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            http="h11",
            timeout_graceful_shutdown=1,
        )
        listening.listen(_BACKLOG)
        address = f"http://{shown}:{bound}/"
        ready(address)
        if open_browser:
            webbrowser.open(address)
        uvicorn.Server(config).run(sockets=[listening])


def _audit(out: Path) -> tuple[Person, ...] | None:
    """The persons of the audit's sample; None where none was drawn."""
    path = out / AUDIT_FILE
    if not path.is_file():
        return None
    # Statistics take a second to import, and most runs have no audit.
    from dpmo_cli.review.audit import read_audit

    return tuple(one.person for one in read_audit(path).drawn)


def _require_quiet(out: Path) -> None:
    """Refuse a folder that a run is writing just now."""
    lock = out / ".dpmo" / "lock"
    if not lock.is_file():
        raise no_run(out)
    # A folder that may only be read is nobody's to write.
    with suppress(OutputError):
        hold(lock, out, in_use(out)).release()


def _bound(host: str, port: int) -> socket.socket:
    """A socket bound to an address of this machine."""
    if host in _EVERYWHERE:
        raise UsageError(f"--host {host}: name one address; pages are served under it alone")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Said to be TCP: of other sockets asyncio does not switch off the delay of small packets, and
    # each answer would take 40 ms more.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise UsageError(
            f"{host}:{port} can't be bound ({error.strerror or error}); "
            "give another --port, or 0 for any"
        ) from error
    return listening


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise UsageError("your login name is not known; give one with --reviewer") from None
