"""``unmask analyze``: a file for each kind of analysis."""

from unmask.cli.commands import Command, Group

ANALYSES = Group(
    "unmask analyze",
    "analysis",
    "Why masked diffusion learns as it does, measured on your own corpus and model.",
    {
        "locality": Command(
            "unmask.cli.analyze.locality:locality_command",
            "how near the information of a corpus or run sits",
        ),
        "learnability": Command(
            "unmask.cli.analyze.learnability:learnability_command",
            "what is left to learn at each mask rate, and which rates teach it",
        ),
        "interventions": Command(
            "unmask.cli.analyze.interventions:interventions_command",
            "whether the recipes' differences survive without locality",
        ),
    },
)

analyze_command = ANALYSES.run
