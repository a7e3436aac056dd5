"""`topwork serve`: a classifier over HTTP, and a page for people."""

from __future__ import annotations

import click

from topwork.cli.options import device_option
from topwork.cli.words import say

EPILOG = """\b
Examples:
  topwork serve runs/photos-1
  curl --data-binary @new/1.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/predict
  TOPWORK_TOKEN=secret topwork serve runs/photos-1 --host 0.0.0.0 --port 80
"""


@click.command(epilog=EPILOG)
@click.argument("run")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all of them.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes any free one.")
@click.option(
    "--token",
    envvar="TOPWORK_TOKEN",
    metavar="TOKEN",
    help="What clients must show. Better set in TOPWORK_TOKEN: other users of this machine can read command lines.",
)
@click.option(
    "--allow-host",
    "allow_hosts",
    metavar="NAME",
    multiple=True,
    help="A name that clients may call this service by, such as that of a proxy before it. May be given several times.",
)
@click.option("--max-megabytes", type=click.FloatRange(0.001), default=20, show_default=True, help="Of one image.")
@click.option(
    "--max-megapixels", type=click.FloatRange(0.001, 178), default=50, show_default=True, help="Of one image."
)
@click.option("--max-images", type=click.IntRange(1), default=32, show_default=True, help="In one request.")
@click.option(
    "--queue", type=click.IntRange(1), default=256, show_default=True, help="Images that may wait; more get a 503."
)
@click.option("--log", is_flag=True, help="Write a line for each request to standard error.")
@device_option
def serve(
    run: str,
    host: str,
    port: int,
    token: str | None,
    allow_hosts: tuple[str, ...],
    max_megabytes: float,
    max_megapixels: float,
    max_images: int,
    queue: int,
    log: bool,
    device: str,
) -> None:
    """Answer for the classifier in RUN over HTTP, with a page for people at /."""
    from topwork.classifier.loading import load_classifier
    from topwork.errors import EnvironmentProblem, OptionError
    from topwork.files import printable

    try:
        from topwork.serve.limits import Limits
        from topwork.serve.running import serve
        from topwork.serve.service import Service
        from topwork.web.hosts import is_this_machine
        from topwork.web.listening import address_of, listen
    except ImportError as error:
        raise EnvironmentProblem(
            f"topwork serve needs the extra 'serve': pip install 'topwork[serve]' ({error})."
        ) from error
    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token and token):
        raise OptionError("Expected a token of printable ASCII characters, without spaces around it.")
    limits = Limits(round(1e6 * max_megabytes), round(1e6 * max_megapixels), max_images, queue)
    classifier = load_classifier(run, device=device)  # type: ignore[arg-type]
    with listen(host, port) as listener:
        address = address_of(listener)
        if is_this_machine(listener.getsockname()[0]):
            allow_hosts = (*allow_hosts, host)  # a name of this machine's own, such as one in /etc/hosts
        elif token is None:
            say("Warning: anyone who can reach this machine can use the service. Set TOPWORK_TOKEN.", err=True)

        def say_ready() -> None:
            n, name = len(classifier.class_names), classifier.backbone.name
            say(f"Serving {printable(run)} ({n:,} classes, {name}) at {address}  (Ctrl-C stops)")

        serve(Service(classifier, limits), listener, token=token, allow_hosts=allow_hosts, log=log, on_ready=say_ready)
