"""Evaluation suites: public ones by name, and where the frozen ones of a run lie."""

from presafe.suites.frozen import FOLDER, QUESTIONS, Question, compared_prompts, suite_file, suite_prompts

__all__ = ["FOLDER", "QUESTIONS", "Question", "compared_prompts", "suite_file", "suite_prompts"]
