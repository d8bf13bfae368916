"""The words around a problem, as the evaluations of DeepSeek-R1 and its distilled models have them."""

BOXED = "{text}\n\nPlease reason step by step, and put your final answer within \\boxed{}."
"""Mathematics: what the models' cards advise, in the user's turn."""
LETTER = (
    "Answer the following multiple choice question. The last line of your response should be of the following format: "
    "'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by step before answering.\n\n{text}"
)
"""Multiple choice, as simple-evals, open-r1 and lighteval ask it."""
