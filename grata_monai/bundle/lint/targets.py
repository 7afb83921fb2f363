"""What a configuration may call: an allow-list of Python names.

A name is here because calling it with values from a configuration neither runs code that those
values name, nor fetches anything, nor deserialises objects. That leaves out, among others,
``monai.transforms.Lambda``, ``TorchVision`` and ``PatchInferer`` (which look up names), everything
that downloads, ``monai.bundle`` itself, and ``torch.load``.
"""

from collections.abc import Iterable, Mapping

__all__ = ["EXPRESSIONS", "READERS", "TARGETS", "WRITERS", "allowed_names"]

TARGETS: Mapping[str, str] = {
    "monai.networks.nets": """
        AttentionUnet BasicUNet BasicUNetPlusPlus DynUNet SegResNet SegResNetDS
        SwinUNETR UNet UNETR VNet""",
    "monai.transforms": """
        Activationsd AsDiscreted CastToTyped CenterSpatialCropd Compose ConcatItemsd CopyItemsd
        CropForegroundd DeleteItemsd DivisiblePadd EnsureChannelFirstd EnsureTyped FillHolesd Flipd
        Invertd KeepLargestConnectedComponentd LoadImaged NormalizeIntensityd Orientationd
        RandAdjustContrastd RandAffined RandBiasFieldd RandCropByPosNegLabeld RandFlipd
        RandGaussianNoised RandGaussianSmoothd RandGridDistortiond RandHistogramShiftd
        RandRicianNoised RandRotate90d RandRotated RandScaleIntensityd RandShiftIntensityd
        RandSimulateLowResolutiond RandSpatialCropd RandZoomd RemoveSmallObjectsd Resized
        ResizeWithPadOrCropd SaveImaged ScaleIntensityd ScaleIntensityRanged
        ScaleIntensityRangePercentilesd SelectItemsd Spacingd SpatialPadd ToDeviced""",
    "monai.inferers": "SimpleInferer SlidingWindowInferer",
    "monai.data": "CacheDataset DataLoader Dataset ThreadDataLoader",
    "monai.losses": "DiceCELoss DiceFocalLoss DiceLoss FocalLoss TverskyLoss",
    "monai.engines": "SupervisedEvaluator SupervisedTrainer",
    "monai.handlers": """
        CheckpointLoader CheckpointSaver HausdorffDistance LrScheduleHandler MeanDice MetricsSaver
        StatsHandler ValidationHandler from_engine""",
    "monai.utils": "set_determinism",
    "torch.nn": "BCEWithLogitsLoss CrossEntropyLoss",
    "torch.optim": "Adam AdamW SGD",
    "torch.optim.lr_scheduler": "CosineAnnealingLR OneCycleLR PolynomialLR StepLR",
    "ignite.handlers": "EMAHandler",
    "grata_monai": "GraTaHandler GraTaInferer",
    "grata_monai.bundle": """
        check_given_settings choose_device find_bundle_root find_profile hash_configuration
        load_network report_errors_in_one_line verify_own_bundle""",
    "grata_monai.evaluator": "OverlappingEvaluator",
    "grata_monai.experiments.evaluate": "EvaluationHandler",
    "grata_monai.handlers": "list_failures raise_if_any_failed segment_or_report",
    "grata_monai.hosts.label.answer": "AnswerRecordd WriteReportd",
    "grata_monai.hosts.label.options": "TakeOptionsd list_methods list_recipes",
    "grata_monai.networks": "add_heads",
    "grata_monai.core.precision": "AutocastInferer",
    "grata_monai.read.cases": "list_cases list_phantoms split_cases",
    "grata_monai.read.dataset": "CaseDataset collate_cases",
    "grata_monai.read.dicom.cases": "list_volumes triage_dataset",
    "grata_monai.read.dicom.limits": "Limits",
    "grata_monai.read.dicom.load": "LoadDicomVolumed",
    "grata_monai.read.image": "CheckImaged LoadImageCheckedd ReadLabeld",
    "grata_monai.read.transforms": "SafeSpacingd ScalePercentilesd ToDeviced",
    "grata_monai.training": "HeadTraining attach_handlers",
    "grata_monai.report": "ReportHandler",
    "grata_monai.transfer.run": "fetch_dataset send_results",
    "grata_monai.transfer.security": "Security",
    "grata_monai.core.files": "ensure_writable",
    "grata_monai.write.dicom.mismatches": "HeedMismatchesd",
    "grata_monai.write.dicom.refused": "raise_if_any_refused write_refused",
    "grata_monai.write.dicom.save": "SaveDicomd",
    "grata_monai.write.dicom.coded_concepts": "read_segments",
    "grata_monai.write.image": "LiftRecordd SaveImageAndRecordd",
    "grata_monai.write.resume": "list_pending run_cases",
    # where published bundles find some of these; gone with version 0.2
    "grata_monai.evaluate": "EvaluationHandler",
    "grata_monai.label.answer": "AnswerRecordd",
    "grata_monai.label.options": "TakeOptionsd list_recipes",
    "grata_monai.precision": "AutocastInferer",
    "grata_monai.write.atomic": "ensure_writable",
    "grata_monai.write.dicom.terms": "read_segments",
}
"""Module to the names in it that may be a ``_target_``."""

EXPRESSIONS: Mapping[str, str] = {
    "glob": "glob",
    "monai.handlers": "from_engine",
    "os.path": "join",
    "torch": "bfloat16 device float16 float32 int64 uint8",
    "torch.cuda": "is_available",
}
"""Module to the names in it that may stand in an expression, where arguments have no names.

A class of transforms cannot: its second argument may be one of `READERS`, or any code at all.
"""

ATTRIBUTES = ".ema_model .get .parameters .refusals .run .to .volumes"
"""What an expression may ask of an object of the configuration, with the dot."""

READERS = frozenset({"ITKReader", "NibabelReader", "NrrdReader", "PILReader", "PydicomReader"})
WRITERS = frozenset({"ITKWriter", "NibabelWriter", "PILWriter"})
"""MONAI looks these up like a ``_target_``, so that any other text there would run as code."""


def allowed_names(extra: Iterable[str] = ()) -> frozenset[str]:
    """Spell out the allow-list.

    Args:
        extra: More names: dotted ones, short ones of MONAI, or attributes with a leading dot.

    Returns:
        Full names and short names of MONAI's own classes; names for expressions with a leading
        ``$``; and attributes with a leading dot.
    """
    more = {*extra}
    names = {*ATTRIBUTES.split(), *more, *(f"${name}" for name in more if name[0] != ".")}
    for module, listed in EXPRESSIONS.items():
        names |= {f"${module}.{name}" for name in listed.split()}
    for module, listed in TARGETS.items():
        for name in listed.split():
            names.add(f"{module}.{name}")
            if module.startswith("monai."):
                names.add(name)
    return frozenset(names)
