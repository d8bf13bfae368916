"""The configuration: one pydantic model a stage, a docstring under each field, unknown keys are errors.

Values that the paper does not state are ours and say so. Sections named `workers` place a stage on the cluster and
never change what it computes, so they are left out of the stage's hash.
"""

from presafe.config.adaptive import Adaptive
from presafe.config.align import Align, Gate, LinearHead, Lora, ReadoutHead, Schedule
from presafe.config.analysis import Analysis
from presafe.config.decodings import NamedDecoding
from presafe.config.demonstrations import Demonstrations
from presafe.config.evaluate import Evaluate
from presafe.config.generation import (
    BatchingSettings,
    Decoding,
    Engine,
    HttpSettings,
    PagedSettings,
    TransformersSettings,
    VllmServing,
    VllmSettings,
)
from presafe.config.judges import ClassifierSettings, Judge, LlmSettings, MajoritySettings, PrefixSettings
from presafe.config.prompts import NearDuplicates, Prompts, Source, TrainingSource, Wrapper
from presafe.config.run import Cluster, Model, Run, Think
from presafe.config.serve import Access, Audit, Drift, EndpointSettings, Serve
from presafe.config.settings import Settings
from presafe.config.signals import BuiltEncoder, FreshEncoder, Signals
from presafe.config.suites import Suite
from presafe.config.teacher import Teacher
from presafe.config.whole import STAGES, Config, load_config, load_serve
from presafe.config.workers import Environment, Group, Placement, Pool, Workers

__all__ = [
    "STAGES",
    "Access",
    "Adaptive",
    "Align",
    "Analysis",
    "Audit",
    "BatchingSettings",
    "BuiltEncoder",
    "ClassifierSettings",
    "Cluster",
    "Config",
    "Decoding",
    "Demonstrations",
    "Drift",
    "EndpointSettings",
    "Engine",
    "Environment",
    "Evaluate",
    "FreshEncoder",
    "Gate",
    "Group",
    "HttpSettings",
    "Judge",
    "LinearHead",
    "LlmSettings",
    "Lora",
    "MajoritySettings",
    "Model",
    "NamedDecoding",
    "NearDuplicates",
    "PagedSettings",
    "Placement",
    "Pool",
    "PrefixSettings",
    "Prompts",
    "ReadoutHead",
    "Run",
    "Schedule",
    "Serve",
    "Settings",
    "Signals",
    "Source",
    "Suite",
    "Teacher",
    "Think",
    "TrainingSource",
    "TransformersSettings",
    "VllmServing",
    "VllmSettings",
    "Workers",
    "Wrapper",
    "load_config",
    "load_serve",
]
