"""``couchdiscover demo``: the sandbox's scenarios, and a rehearsal on the user's own manifests."""

from typing import Annotated

import typer

from couchdiscover.errors import UsageProblem


def demo(
    context: typer.Context,
    scenario: Annotated[
        str,
        typer.Option(
            "--scenario",
            metavar="NAME",
            help="fresh, slow-boot, assembled, scale-up, replaced, drift, restore, clone, "
            "wrong-password, split",
        ),
    ] = "fresh",
    nodes: Annotated[
        int, typer.Option("--nodes", min=1, max=200, metavar="N", help="Nodes to begin with")
    ] = 3,
    manifest: Annotated[
        list[str] | None,
        typer.Option(
            "--manifest",
            metavar="FILE...",
            help="Rehearse run and check on these manifests instead: YAML as from helm template or "
            "kubectl get -o yaml, folders, - for standard input",
            show_default=False,
        ),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="[FILE]...", hidden=True)] = None,
    statefulset: Annotated[
        str | None,
        typer.Option(
            "--statefulset",
            "-s",
            metavar="NAME",
            help="With --manifest: the StatefulSet, where there are several",
            show_default=False,
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAME",
            help="With --manifest: the namespace of objects that name none [default: default]",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            metavar="DURATION",
            help="With --manifest: how long run may try [default: 60s]",
            show_default=False,
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="With --manifest: nodes of several StatefulSets under one Service begin apart, "
            "and not as one cluster that was joined by hand",
            show_default=False,
        ),
    ] = False,
) -> int:
    """Play the whole job on an embedded sandbox.

    That is a Kubernetes API and CouchDB nodes on loopback: it needs nothing installed and no root.
    With COUCHDB_HOME=/opt/couchdb in the environment the nodes are real ones of that CouchDB
    release. Exits with 0 where the command did what it must.

    With --manifest it is a rehearsal on your own StatefulSet, Services, Secrets and ConfigMaps,
    before anything touches a cluster: simulated nodes are started as the official image would start
    them, and run, then check, are let loose on them. It says what it cannot know, shows no Secret's
    value, and exits as run and check do.
    """
    if manifest:
        files = [*manifest, *(more or ())]
        return _rehearse(context, files, statefulset, namespace, timeout, fresh)
    if more or statefulset or namespace or timeout or fresh:
        raise typer.BadParameter(
            "files, --statefulset, --namespace, --timeout and --fresh go with --manifest"
        )
    from couchdiscover.sandbox.demo import SCENARIOS, play
    from couchdiscover.sandbox.real import NodeStartError, NoReleaseError

    if scenario not in SCENARIOS:
        raise typer.BadParameter(f"{scenario!r} is none of {', '.join(SCENARIOS)}")
    if scenario == "split" and nodes < 2:
        raise typer.BadParameter("two clusters need two nodes")
    try:
        return play(scenario, nodes, typer.echo)
    except (NodeStartError, NoReleaseError) as error:
        raise UsageProblem(str(error)) from None


def _rehearse(
    context: typer.Context,
    files: list[str],
    statefulset: str | None,
    namespace: str | None,
    timeout: str | None,
    fresh: bool,
) -> int:
    """``demo --manifest``: what cannot be played is told in a sentence, with exit code 2."""
    from couchdiscover.cli.settings import parse_duration
    from couchdiscover.kube.names import is_label
    from couchdiscover.sandbox.reading import ManifestError
    from couchdiscover.sandbox.rehearsal import DEFAULT_TIMEOUT, ChoiceError, rehearse

    for name in ("scenario", "nodes"):
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise typer.BadParameter(f"--{name} and --manifest do not go together")
    if namespace is not None and not is_label(namespace):
        raise typer.BadParameter(f"{namespace!r} is no name of a namespace")
    try:
        seconds = parse_duration(timeout) if timeout else DEFAULT_TIMEOUT
    except ValueError as error:
        raise typer.BadParameter(f"--timeout: {error}") from None
    try:
        return rehearse(
            files,
            typer.echo,
            statefulset=statefulset,
            namespace=namespace,
            timeout=seconds,
            fresh=fresh,
        )
    except (ManifestError, ChoiceError) as error:
        raise UsageProblem(str(error)) from None
