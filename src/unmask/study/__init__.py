"""Studies of a corpus or a run: opened, measured by `unmask.analyze`, written down."""

from unmask.study.locality import locality_of_corpus, locality_of_run, save_locality
from unmask.study.sentences import reasoning

__all__ = ["locality_of_corpus", "locality_of_run", "reasoning", "save_locality"]
