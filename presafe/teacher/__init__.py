"""Stage `teacher`: the CoT-OFF state's decisions and the model's own CoT-ON traces, as a Ray Data job."""

from presafe.teacher.stage import run_teacher

__all__ = ["run_teacher"]
