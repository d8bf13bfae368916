"""All public suites, by name."""

from presafe.suites import (
    advbench,
    aime,
    gpqa,
    gsm8k,
    harmbench,
    jailbreakbench,
    math_500,
    or_bench,
    sorry_bench,
    strongreject,
    wildjailbreak,
    xstest,
)

PUBLIC = {
    suite.name: suite
    for suite in (
        jailbreakbench.HARMFUL,
        jailbreakbench.BENIGN,
        strongreject.STRONGREJECT,
        wildjailbreak.EVAL_HARMFUL,
        wildjailbreak.EVAL_BENIGN,
        wildjailbreak.TRAIN_HARMFUL,
        wildjailbreak.TRAIN_BENIGN,
        harmbench.STANDARD,
        harmbench.CONTEXTUAL,
        advbench.ADVBENCH,
        sorry_bench.SORRY_BENCH,
        xstest.SAFE,
        xstest.UNSAFE,
        or_bench.HARD,
        aime.AIME_2024,
        aime.AIME_2025,
        math_500.MATH_500,
        gpqa.DIAMOND,
        gsm8k.GSM8K,
        gsm8k.GSM8K_TRAIN,
    )
}
