"""``unmask analyze``: a file for each kind of analysis."""

from unmask.cli.commands import Group

ANALYSES = Group(
    "unmask analyze",
    "unmask.cli.analyze",
    "analysis",
    "Why masked diffusion learns as it does, measured on your own corpus and model.",
    {
        "locality": "how near the information of a corpus or run sits",
        "learnability": "what is left to learn at each mask rate, and which rates teach it",
        "interventions": "whether the recipes' differences survive without locality",
    },
)

analyze_command = ANALYSES.run
