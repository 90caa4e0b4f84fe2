"""Draws the state machine of a job into ARCHITECTURE.md, from the table that it runs on.

python tools/diagram.py [--check]
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from wsclean_workerd.model import ENDED, JobState
from wsclean_workerd.state_machine import TRANSITIONS

DOCUMENT = Path(__file__).resolve().parent.parent / "ARCHITECTURE.md"
BEGIN, END = "<!-- state machine: begin -->\n", "<!-- state machine: end -->\n"


def diagram() -> str:
    """The machine as a Mermaid diagram; what leaves a job where it is is left out."""
    arrows: defaultdict[tuple[JobState, JobState], list[str]] = defaultdict(list)
    for (state, event), transition in TRANSITIONS.items():
        for target in transition.targets - {state}:
            arrows[state, target].append(event.__name__)
    order = list(JobState)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {JobState.QUEUED.name}"]
    for (state, target), events in sorted(
        arrows.items(),
        key=lambda item: (order.index(item[0][0]), order.index(item[0][1])),
    ):
        lines.append(f"    {state.name} --> {target.name}: {', '.join(sorted(events))}")
    lines += [f"    {state.name} --> [*]" for state in order if state in ENDED]
    return "\n".join([*lines, "```", ""])


def main() -> None:
    """Write the diagram, or with --check say whether it is current."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    current = before + BEGIN + diagram() + END + after
    if "--check" not in sys.argv:
        DOCUMENT.write_text(current, encoding="utf-8")
    elif current != text:
        sys.exit("error: the diagram in ARCHITECTURE.md is not current: run tools/diagram.py")


if __name__ == "__main__":
    main()
