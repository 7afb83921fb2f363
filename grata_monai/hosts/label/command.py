"""The command line's ``label``: options, call, report.

Imports what it calls only when it is called, so that ``--help`` needs no deep-learning framework.
"""

import argparse
from pathlib import Path

__all__ = ["add_label_options", "run_collect", "run_install"]

SLICER = Path(__file__).parent / "assets" / "slicer_window.py"


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of ``label`` to its parser."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    installer = actions.add_parser(
        "install",
        help="put the bundle into an app of MONAI Label",
        description="Verify the bundle, and put it where the stock monaibundle app of MONAI Label "
        "finds it. If APP_DIR is missing or empty, the stock app is copied there first.",
    )
    installer.add_argument("app_dir", type=Path, metavar="APP_DIR", help="folder of the app")
    installer.add_argument(
        "--bundle", type=Path, default=Path("bundle"), metavar="DIR", help="root (default: bundle)"
    )
    installer.add_argument(
        "--link", action="store_true", help="make a symbolic link instead of a copy"
    )
    installer.set_defaults(run=run_install)
    collector = actions.add_parser(
        "collect",
        help="gather submitted labels for calibrate and train",
        description="Copy the studies with a submitted label into OUT/images, and the labels into "
        "OUT/labels, as --cases CENTRE=OUT of calibrate and compare takes them.",
    )
    collector.add_argument("studies", type=Path, metavar="STUDIES", help="folder of the server")
    collector.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    collector.set_defaults(run=run_collect)


def run_collect(arguments: argparse.Namespace) -> str:
    """Gather submitted labels.

    Args:
        arguments: With the options of `add_label_options`.

    Returns:
        How many, and where they are.

    Raises:
        DatasetError: If STUDIES is no folder of MONAI Label, or a label is no NIfTI.
        OutputError: If OUT cannot be written.
    """
    from grata_monai.bundle.shipped import find_shipped_bundle  # noqa: PLC0415
    from grata_monai.hosts.label.collect import collect_labels, read_names  # noqa: PLC0415

    names = read_names(find_shipped_bundle() / "configs" / "metadata.json")
    found = collect_labels(arguments.studies, arguments.out, names)
    return f"{len(found)} submitted label(s) in {arguments.out}"


def run_install(arguments: argparse.Namespace) -> str:
    """Install the bundle.

    Args:
        arguments: With the options of `add_label_options`.

    Returns:
        The report.

    Raises:
        BundleError: If the bundle is not as its manifest says.
        WeightsError: If its weights do not fit its network.
        OutputError: If something else lies in its place, or it cannot be written.
        ValueError: If APP_DIR is no app and cannot be made one.
    """
    from grata_monai.bundle.verify import manifest_digest, verify_manifest  # noqa: PLC0415
    from grata_monai.hosts.label.install import MODEL, install_bundle, prepare_app  # noqa: PLC0415

    verify_manifest(arguments.bundle)
    is_new = prepare_app(arguments.app_dir)
    target = install_bundle(arguments.bundle, arguments.app_dir, is_link=arguments.link)
    lines = [f"copied the stock app to {arguments.app_dir}"] if is_new else []
    lines += [
        f"{'linked' if arguments.link else 'installed'} the bundle as {target}",
        f"SHA-256 of its manifest: {manifest_digest(target)}",
        "start the server, for this machine alone, with the Python of MONAI Label:",
        f"  python -m monailabel.main start_server --app {arguments.app_dir} --studies DIR \\",
        "    --uvicorn_app grata_monai.hosts.label.server:app \\",
        f"    --conf models {MODEL} --conf zoo_source local --conf sam2 false \\",
        "    --conf skip_trainers true --host 127.0.0.1 --port 8000",
        "light and verdict in 3D Slicer's window: one line in its .slicerrc.py",
        f"  exec(open({str(SLICER)!r}).read())",
    ]
    return "\n".join(lines)
