"""`topwork label`: a folder of images, a page to label them on, and a journal of the labels."""

from __future__ import annotations

import secrets
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from topwork.cli.options import backbone_options, device_option, load_backbone_for, reporter_for
from topwork.cli.words import say

if TYPE_CHECKING:
    from topwork.label.app import Trial
    from topwork.progress import Reporter

EPILOG = """\b
Examples:
  topwork label photos/                # opens a page; the labels are kept in photos.labels.csv
  topwork label photos/ --review       # go through label issues, copies and strange images
  topwork train photos/ --labels photos.labels.csv
"""


@click.command(epilog=EPILOG)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where the labels are kept.  [default: FOLDER.labels.csv]",
)
@click.option("--review", is_flag=True, help="Look for what may be wrong; sub-folders are taken as first labels.")
@click.option("--no-browser", is_flag=True, help="Print the page's address only.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need --token.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the page.  [default: any free one]")
@click.option(
    "--token",
    envvar="TOPWORK_TOKEN",
    metavar="TOKEN",
    help="What the page's address carries.  [default: drawn anew each time]",
)
@click.option(
    "--allow-host",
    "allow_hosts",
    metavar="NAME",
    multiple=True,
    help="A name that the page may be called by, such as that of a proxy before it. May be given several times.",
)
@backbone_options
@device_option
@click.option("--quiet", "-q", is_flag=True, help="Only the address, warnings and errors.")
def label(
    folder: Path,
    journal: Path | None,
    review: bool,
    no_browser: bool,
    host: str,
    port: int,
    token: str | None,
    allow_hosts: tuple[str, ...],
    device: Any,
    quiet: bool,
    **options: Any,
) -> None:
    """Label the images in FOLDER on a page in the browser, and train on them there.

    All images in it and its sub-folders are shown. Each answer is on the disk, in a CSV beside the folder, before the
    page shows it as saved. Go on at any time: the same command begins where you stopped.
    """
    from topwork.data.images import UnlabelledImages
    from topwork.data.journal import open_journal
    from topwork.errors import EnvironmentProblem, OptionError
    from topwork.files import printable

    try:
        from topwork.label.running import serve_page
        from topwork.label.session import Session
        from topwork.web.hosts import is_this_machine
        from topwork.web.listening import address_of, listen
    except ImportError as error:
        raise EnvironmentProblem(
            f"topwork label needs the extra 'serve': pip install 'topwork[serve]' ({error})."
        ) from error
    if token is not None and not (token.isascii() and token.isprintable() and len(token) > 7 and " " not in token):
        raise OptionError("Expected a token of 8 or more printable ASCII characters, without spaces.")
    reporter = reporter_for(quiet)
    images = UnlabelledImages.from_directory(folder)
    for note in images.notes:
        reporter.warning(note)
    path = journal or _beside(folder)
    with ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        is_local = is_this_machine(listener.getsockname()[0])
        if token is None and not is_local:
            raise click.UsageError(f"With --host {host}, others can reach the page: choose a --token for it.")
        opened = stack.enter_context(open_journal(path))
        backbone = load_backbone_for(images, options, reporter, device=device)
        if review and not opened.labelling.images:
            from topwork.runs.labelling import read_folder_labels

            read_folder_labels(folder, opened, reporter)

        def train(to: Reporter) -> Path:
            from topwork.runs.labelling import train_on_journal  # with scikit-learn, seconds to load

            command = shlex.join(["topwork", "train", str(folder), "--labels", str(path)])
            return train_on_journal(folder, path, backbone, device=device, command=printable(command), reporter=to)

        session = Session(images, opened, backbone, device=device, review=review, train=train)
        secret = token or secrets.token_urlsafe(24)
        address = f"{address_of(listener)}/?token={secret}{'#review' if review else ''}"

        def say_ready() -> None:
            say(f"Labels are kept in {path}. The page: {address}  (Ctrl-C stops)")
            if not no_browser:
                import webbrowser

                webbrowser.open(address)

        serve_page(
            session,
            listener,
            token=secret,
            allow_hosts=(*allow_hosts, host) if is_local else allow_hosts,
            open_trial=lambda run: _trial(run, secret, device),
            on_ready=say_ready,
        )
    n = sum(bool(row.label) for row in opened.labelling.images.values())
    say(f"\n{n:,} labels are in {path}. Next: topwork train {folder} --labels {path}")


def _beside(folder: Path) -> Path:
    """`photos.labels.csv` beside `photos`."""
    whole = folder.resolve()
    return (folder.parent if folder.name not in ("", "..") else whole.parent) / f"{whole.name}.labels.csv"


def _trial(run: Path, token: str, device: Any) -> Trial:
    """The service for a finished run, within the page."""
    from topwork.classifier.loading import load_classifier
    from topwork.label.app import Trial
    from topwork.serve.access import Access
    from topwork.serve.app import create_app
    from topwork.serve.service import Service

    service = Service(load_classifier(run, device=device))
    service.start()
    return Trial(create_app(service, Access(token)), service.stop)
