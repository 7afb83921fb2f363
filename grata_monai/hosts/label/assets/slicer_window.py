"""Run inside 3D Slicer: show light and verdict of a case in its window when a mask arrives.

Slicer's module prints what a server answers beside the mask into the Python console alone. This
script asks it for the answer on its way. It needs nothing but Slicer and its extension MONAILabel:
load it from ``.slicerrc.py``, see `docs/how-to/use-from-slicer.md`.
"""

from functools import wraps

import slicer
from MONAILabelLib import MONAILabelClient

MARKS = {"green": "✓ GREEN", "amber": "! AMBER: look closely", "red": "✕ RED: do not rely on it"}


def tell(answer, server=""):
    """Show what an answer says; nothing where it says nothing.

    Args:
        answer: The JSON part of an inference.
        server: Its address, before the path of the report.
    """
    if not isinstance(answer, dict) or "light" not in answer:
        return
    lines = [MARKS.get(answer["light"], "no light"), answer.get("verdict", "")]
    if answer.get("report"):
        lines.append(f"Report: {server.rstrip('/')}{answer['report']}")
    slicer.util.showStatusMessage(f"{lines[0]}. {lines[1]}", 0)
    slicer.util.infoDisplay("\n\n".join(lines), windowTitle=lines[0])


def install():
    """Let every answer of the module's client be shown; once."""
    infer = MONAILabelClient.infer
    if hasattr(infer, "__wrapped__"):
        return

    @wraps(infer)
    def shown(client, *args, **more):
        mask, answer = infer(client, *args, **more)
        tell(answer, client._server_url)
        return mask, answer

    MONAILabelClient.infer = shown


install()
