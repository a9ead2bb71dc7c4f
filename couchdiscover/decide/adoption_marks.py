"""What an adoption leaves on the volumes: whose they were, and that they are proven. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from couchdiscover.decide.ground import Ground
from couchdiscover.state.nodes import NodeView
from couchdiscover.state.volumes import Mark


def early_marks(ground: Ground) -> Mapping[str, Mark]:
    """By pod, the marks that must be there before the first step: whose the volumes were.

    A join blurs the weaker evidence (a volume that was always alone has no history), and once the
    maps are rewritten nothing would tell an adoption that was killed before its copies were proven.
    They have no time, by which they are told from those of a node that was verified.
    """
    found = {}
    for node in ground.view.nodes:
        names = [former.name for former in ground.formers.values() if former.pod == node.pod]
        displaced = ground.survey.permuted.get(node.pod)
        names = latest_first(ground, node.pod, names) + ([displaced] if displaced else [])
        uuid = ground.survey.volumes[node.pod].uuid
        if not names or uuid is None:
            continue
        mark = ground.survey.mark(node.pod)
        if mark is None:
            found[node.pod] = Mark(names[0], uuid, {}, was=tuple(names[1:]))
            continue
        # One that says its own name is proven to no longer, until the rest is adopted, too.
        told = names[0] if mark.node == node.name else mark.node
        was = dict.fromkeys(name for name in (*mark.was, *names) if name != told)
        if (told, tuple(was), "") != (mark.node, mark.was, mark.at):
            found[node.pod] = replace(mark, node=told, was=tuple(was), at="")
    return found


def former_names(ground: Ground) -> Mapping[str, tuple[str, ...]]:
    """By pod, the names that its volume had before, for its mark."""
    found = {}
    for node in ground.view.nodes:
        mark = ground.survey.mark(node.pod)
        before = (mark.node, *mark.was) if mark is not None else ()
        names = [former.name for former in ground.formers.values() if former.pod == node.pod]
        found[node.pod] = tuple(dict.fromkeys(n for n in (*before, *names) if n != node.name))
    return found


def marks_due(ground: Ground, pods: Iterable[str]) -> tuple[str, ...]:
    """Of some pods those whose mark does not say yet what is so."""
    was = former_names(ground)
    due = []
    for pod in pods:
        node, mark = ground.view.sight(pod), ground.survey.mark(pod)
        name = node.name if isinstance(node, NodeView) else ""
        if mark is None or not mark.at or mark.node != name or set(was[pod]) - set(mark.was):
            due.append(pod)
    return tuple(due)


def latest_first(ground: Ground, pod: str, names: Sequence[str]) -> list[str]:
    order = ground.survey.seen_as(pod)
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))
