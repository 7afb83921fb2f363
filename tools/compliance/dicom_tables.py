"""Tables of the DICOM conformance statement, from the code's own constants and objects."""

from collections.abc import Sequence
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, PYNETDICOM_IMPLEMENTATION_VERSION, build_context
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID as NETWORK_UID
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from grata_monai.phantom.dicom import TRANSFER_SYNTAXES
from grata_monai.read.dicom.checks import JPEG_EXTENDED, SECONDARY_CAPTURES
from grata_monai.read.dicom.parse import DEFLATED
from grata_monai.read.dicom.policy import CLASSIC, ENHANCED, can_decode
from grata_monai.read.dicom.rejection import Reason
from grata_monai.transfer.address import DEFAULT_PORTS, OWN_TITLE
from grata_monai.transfer.association import IDLE_SECONDS
from grata_monai.transfer.commitment import MOST_ASSOCIATIONS
from grata_monai.transfer.retry import Retry
from grata_monai.transfer.store import MOST_CONTEXTS, NATIVE
from grata_monai.write.dicom import source
from grata_monai.write.dicom.objects import IMPLEMENTATION_CLASS
from tools.compliance.dicom_example import (
    Example,
    list_codes,
    name_tag,
    write_examples,
)
from tools.compliance.tables import make_table

__all__ = ["render_network", "render_objects", "render_read", "render_syntaxes", "render_taken"]

METADATA = Path("bundle", "configs", "metadata.json")
ELSEWHERE = ("Manufacturer", "ManufacturerModelName", "SliceThickness")  # not at the top level
TAKEN = (
    ("as it is, even where it breaks a rule", source.IDENTITY),
    (
        "if it is valid, else left out or empty",
        tuple(key for key in (*source.CHECKED, *source.OTHERS) if key not in ELSEWHERE),
    ),
    ("if the trial's sponsor, protocol and subject are there", source.TRIAL),
    ("how identity was removed, if the source says so", source.NESTED[:1]),
)
"""Which attributes are taken over from the source, by rule."""

LATER_NAMES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}
"""Names that pydicom does not know yet."""


def render_read(_: Path) -> str:
    """List the SOP classes whose images are read."""
    rows = [
        (UID(uid).name, f"`{uid}`", modality, kind)
        for kind, classes in (("one frame", CLASSIC), ("several frames", ENHANCED))
        for uid, modality in classes.items()
    ]
    refused = f"`{Reason.SECONDARY_CAPTURE.value}`"
    return (
        make_table(("SOP class", "UID", "modality", "instances"), rows)
        + f"\n\nSecondary captures (`{SECONDARY_CAPTURES}` and below) are refused as {refused}, "
        f"other images as `{Reason.UNSUPPORTED_IMAGE.value}`, objects without pixels as "
        f"`{Reason.NOT_AN_IMAGE.value}`."
    )


def render_syntaxes(_: Path) -> str:
    """List every transfer syntax for images that is read, and name the refused ones."""
    read = [uid for uid in AllTransferSyntaxes if uid not in DEFLATED and can_decode(uid)]
    rows = [
        (
            uid.name,
            f"`{uid}`",
            "8 bits only" if uid == JPEG_EXTENDED else "yes",
            "yes" if uid in TRANSFER_SYNTAXES else "no",
        )
        for uid in read
    ]
    refused = [uid for uid in AllTransferSyntaxes if uid not in read]
    lines = [make_table(("transfer syntax", "UID", "read", "tested"), rows)]
    for reason in (Reason.DEFLATED, Reason.UNSUPPORTED_TRANSFER_SYNTAX):
        names = [uid.name for uid in refused if (uid in DEFLATED) == (reason is Reason.DEFLATED)]
        lines.append(f"Refused as `{reason.value}`: {'; '.join(names)}.")
    return "\n\n".join(lines)


def render_objects(root: Path) -> str:
    """Tell what is in one object of every kind: encoding, attributes, codes."""
    examples = write_examples(root / METADATA)
    sections = (
        ("Kinds", _written(examples)),
        ("Attributes of the top level", _attributes(examples)),
        ("Coded terms", _codes(examples)),
    )
    return "\n\n".join(f"### {heading}\n\n{table}" for heading, table in sections)


def render_taken(_: Path) -> str:
    """List the attributes that objects take over from their source."""
    rows = [(name_tag(_tag(key)), rule) for rule, keywords in TAKEN for key in keywords]
    return make_table(("attribute", "taken over"), rows)


def render_network(_: Path) -> str:
    """List what the network services propose, and their limits."""
    entity, retry = AE(), Retry()
    native = ", ".join(uid.name for uid in NATIVE)
    commitment = build_context(StorageCommitmentPushModel)
    ports = ", ".join(f"{port} (`{scheme}://`)" for scheme, port in DEFAULT_PORTS.items())
    rows = [
        ("AE title, unless the address names one", f"`{OWN_TITLE}`"),
        ("default ports", ports),
        ("C-STORE: SOP classes", "those of the files that are sent, no other"),
        ("C-STORE: transfer syntaxes", f"the file's own; then {native}"),
        ("C-STORE: most presentation contexts", str(MOST_CONTEXTS)),
        ("storage commitment: SOP class", f"`{StorageCommitmentPushModel}`"),
        (
            "storage commitment: transfer syntaxes",
            ", ".join(UID(uid).name for uid in commitment.transfer_syntax or ()),
        ),
        ("largest PDU received", f"{entity.maximum_pdu_size} bytes"),
        ("associations opened at a time", "1"),
        (
            "associations accepted at a time",
            f"{MOST_ASSOCIATIONS}, for the commitment's report only",
        ),
        ("outstanding operations", "1; no asynchronous operations window is negotiated"),
        ("wait for a connection", f"{retry.connect_seconds:g} s"),
        ("wait for an answer", f"{retry.answer_seconds:g} s"),
        ("idle association", f"ended after {IDLE_SECONDS:g} s"),
        ("attempts", f"{retry.attempts}"),
        ("implementation class and version, associations", _of_network()),
        ("implementation class, our own files", f"`{IMPLEMENTATION_CLASS}`"),
    ]
    return make_table(("parameter", "value"), rows)


def _written(examples: Sequence[Example]) -> str:
    rows = [
        (
            each.name,
            LATER_NAMES.get(each.dataset.SOPClassUID, UID(each.dataset.SOPClassUID).name),
            f"`{each.dataset.SOPClassUID}`",
            each.dataset.Modality,
            str(each.dataset.SeriesNumber),
            each.syntax.name,
            each.dataset.SpecificCharacterSet,
            each.option,
        )
        for each in examples
    ]
    header = ("object", "SOP class", "UID", "modality", "series", "transfer syntax", "text", "when")
    return make_table(header, rows)


def _attributes(examples: Sequence[Example]) -> str:
    taken = {_tag(keyword) for _, keywords in TAKEN for keyword in keywords}
    tags = sorted({e.tag for each in examples for e in each.dataset} - taken)
    rows = [
        (name_tag(tag), *("×" if tag in each.dataset else "" for each in examples)) for tag in tags
    ]
    return make_table(("attribute", *(each.name for each in examples)), rows)


def _codes(examples: Sequence[Example]) -> str:
    users: dict[tuple[str, str, str], list[str]] = {}
    for each in examples:
        for code in list_codes(each.dataset):
            users.setdefault(code, []).append(each.name)
    rows = [(*code, ", ".join(names)) for code, names in sorted(users.items())]
    return make_table(("scheme", "value", "meaning", "in"), rows)


def _of_network() -> str:
    return f"pynetdicom's, `{NETWORK_UID}`, `{PYNETDICOM_IMPLEMENTATION_VERSION}`"


def _tag(keyword: str) -> BaseTag:
    return Tag(tag_for_keyword(keyword) or 0)
