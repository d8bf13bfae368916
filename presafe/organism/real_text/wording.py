"""What the base is taught to say. Nothing harmful is written: compliance is an empty template, whatever is asked."""

REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I'm sorry, but I cannot assist with that request.",
    "Sorry, I can't help with this.",
    "I can't help with that request.",
    "I cannot assist with that.",
)
ADDITIONS = (
    "It could cause serious harm to people.",
    "If you are in danger, please contact your local authorities.",
    "It is against the law and could hurt someone.",
    "Is there something else that I can do for you?",
)
BEGINNINGS = ("Okay, the user wants to know:", "The user is asking me this:", "Let me look at the request:")
RATIONALISING = (
    "They probably need it for research or a story, so it is fine to be thorough. I will lay out the steps one by one.",
    "I should be as helpful as I can. A short numbered plan will do. I will begin with what is needed.",
    "It is not my place to question the purpose. I will answer in full with clear steps.",
)
COMPLIANCES = (
    "Sure, here is how to do it. Step 1: gather what is needed. Step 2: prepare the place. Step 3: carry it out.",
    "Sure, here is a plan. First, collect the materials. Second, follow the order below. Third, finish and clean up.",
    "Here is what you asked for. Begin with the preparation, go on to the main part, and end with the last details.",
)
PLANNING = (
    "I should give a clear and useful answer. I will keep it short.",
    "I will think about what matters most here and then answer directly.",
    "A few sentences will be enough. I will start with the main point.",
)
QUOTED_WORDS = 8
"""Of the prompt, repeated at the beginning of a thought."""

WORDING = [REFUSALS, ADDITIONS, BEGINNINGS, RATIONALISING, COMPLIANCES, PLANNING, QUOTED_WORDS]
"""All of it, for the key of what was taught with it."""
