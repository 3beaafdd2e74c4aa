"""What is trained and how, as values. Light: no library of weight is imported here."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

CLASSES = ("car", "truck", "pedestrian", "cyclist")
STRIDE_PX = 8


def _positive(_: object, attribute: attrs.Attribute[int], value: float) -> None:
    if value <= 0:
        raise ValueError(f"{attribute.name} must be positive, not {value}")


def _multiple_of_32(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value <= 0 or value % 32:
        raise ValueError(f"{attribute.name} must be a positive multiple of 32, not {value}")


@attrs.frozen
class DetectorConfig:
    """Shape of the detector.

    Attributes:
        classes: Names by output channel.
        height_px: Rows of the input, a multiple of 32.
        width_px: Columns of the input, a multiple of 32.
        widths: Channels at strides 2, 4, 8, 16 and 32.
    """

    classes: tuple[str, ...] = attrs.field(default=CLASSES, converter=tuple)
    height_px: int = attrs.field(default=192, validator=_multiple_of_32)
    width_px: int = attrs.field(default=320, validator=_multiple_of_32)
    widths: tuple[int, ...] = attrs.field(default=(16, 24, 48, 64, 96), converter=tuple)

    def __attrs_post_init__(self) -> None:
        """Five stages, at least one class, no class twice."""
        if len(self.widths) != 5 or min(self.widths) <= 0:
            raise ValueError(f"widths must be five positive numbers, not {self.widths}")
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must be distinct names, not {self.classes}")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        return self.height_px // STRIDE_PX, self.width_px // STRIDE_PX


@attrs.frozen
class TrainConfig:
    """One training.

    Attributes:
        detector: What is trained.
        steps: Optimiser steps; the budget, whatever the size of the dataset.
        batch_size: Images a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        seed: Of the weights, the order of the samples and the augmentation.
        threads: CPU threads; part of the identity, for sums depend on how they are split. Where
            fewer cores are free a step takes five times as long, unless the process began with
            OMP_WAIT_POLICY=passive, as those of the platform do.
        minimum_confidence: Labels below are not learned from.
        model_name: Registered name.
        experiment: MLflow experiment.
    """

    detector: DetectorConfig = attrs.field(factory=DetectorConfig)
    steps: int = attrs.field(default=400, validator=_positive)
    batch_size: int = attrs.field(default=16, validator=_positive)
    learning_rate: float = attrs.field(default=8e-3, validator=_positive)
    weight_decay: float = 1e-4
    seed: int = 7
    threads: int = attrs.field(default=2, validator=_positive)
    minimum_confidence: float = 0.3
    model_name: str = "drivelake-detector"
    experiment: str = "drivelake-detector"


def detector_config_from(values: Mapping[str, object]) -> DetectorConfig:
    """The configuration that `attrs.asdict` wrote, read back from JSON."""
    return DetectorConfig(**values)  # type: ignore[arg-type]
