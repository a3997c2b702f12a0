"""The flags that several verbs share: the settings of the library, in groups of a verb's help."""

from typing import Annotated, Any

from cyclopts import Group, Parameter

from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.video.rules import BoxSettings
from pipeline.runs.adapted import RoundSettings
from pipeline.runs.scale_plan import ScaleSettings
from pipeline.runs.selection import RowFilter
from pipeline.runs.settings import (
    ActorSettings,
    CameraSettings,
    ExpansionSettings,
    ExportSettings,
    FigureSettings,
    FoldSettings,
    MistakeSettings,
    RecipeSettings,
    RerankingSettings,
    ResamplingSettings,
    RuleSettings,
    UpdateSettings,
    WorkSettings,
)
from pipeline.runs.trained import SupervisedSettings
from pipeline.runs.travelled import TravelSettings


def _flags(title: str, **others: Any) -> Parameter:
    """Make each field a flag, in a section of the verb's help before the common flags."""
    return Parameter(name="*", group=Group(title, sort_key=0), **others)


RecipeFlags = Annotated[RecipeSettings, _flags("Recipe")]
BoxFlags = Annotated[BoxSettings, _flags("Boxes of videos")]
LabelFlags = Annotated[LabelSettings, _flags("Labels")]
ActorFlags = Annotated[ActorSettings, _flags("Where it runs")]
WorkFlags = Annotated[WorkSettings, _flags("The work")]
UpdateFlags = Annotated[UpdateSettings, _flags("Beside the source")]
FilterFlags = Annotated[RowFilter, _flags("Which rows", negative=())]
FigureFlags = Annotated[FigureSettings, _flags("Figures")]
ExpansionFlags = Annotated[ExpansionSettings, _flags("Expansion")]
CameraFlags = Annotated[CameraSettings, _flags("Camera normalization")]
MistakeFlags = Annotated[MistakeSettings, _flags("Mistakes")]
RerankingFlags = Annotated[RerankingSettings, _flags("Re-ranking")]
FoldFlags = Annotated[FoldSettings, _flags("Where it runs")]
ScaleFlags = Annotated[ScaleSettings, _flags("The archive and the machines")]
RoundFlags = Annotated[RoundSettings, _flags("Adaptation", negative=())]
SupervisedFlags = Annotated[SupervisedSettings, _flags("Training", negative=())]
ExportFlags = Annotated[ExportSettings, Parameter(name="*")]
RuleFlags = Annotated[RuleSettings, Parameter(name="*")]
TravelFlags = Annotated[TravelSettings, _flags("Travel times")]
ResamplingFlags = Annotated[ResamplingSettings, Parameter(name="*")]
