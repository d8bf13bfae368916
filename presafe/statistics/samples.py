"""Several answers a prompt."""

from scipy.special import comb  # type: ignore[import-untyped]

from presafe.statistics.clustered import FloatArray, IntArray


def pass_at_k(correct: IntArray, answers: IntArray, k: int) -> FloatArray:
    """Unbiased estimate for each prompt that one of k answers is correct, of `correct[j]` of `answers[j]`.

    1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, eq. 1); at k = 1 the share of correct answers. The
    mean over prompts has the interval of `share_interval`. Raises ValueError where a prompt has fewer than k answers.
    """
    if (answers < k).any():
        raise ValueError(f"pass@{k} of {answers.min()} answers")
    found: FloatArray = 1 - comb(answers - correct, k) / comb(answers, k)
    return found
